"""Servers that share an alias restart one after the other: somebody answers all the time."""

from __future__ import annotations

from threading import Event, Thread

import pytest
import requests

from tests.acceptance.test_fleet_file import Fleet
from tests.deadline import DEADLINE

ONE, TWO, ALIAS = "one", "two", "both"
BODY = {"model": ALIAS, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


class Asker:
    """A client that asks for the alias again and again."""

    def __init__(self, url):
        self.codes = []
        self._url, self._end = url, Event()
        self._thread = Thread(target=self._ask)
        self._thread.start()

    def _ask(self):
        while not self._end.is_set():
            answer = requests.post(f"{self._url}/v1/chat/completions", json=BODY, timeout=DEADLINE)
            self.codes.append(answer.status_code)
            self._end.wait(0.02)

    def finish(self):
        self._end.set()
        self._thread.join()
        return set(self.codes)


@pytest.fixture
def fleet(make_proxy):
    return Fleet(make_proxy())


def write(fleet, *flags):
    words = ", ".join(f'"{word}"' for word in ("--fake-load-seconds", "0.5", *flags))
    lines = f'aliases = ["{ALIAS}"]\nargs = [{words}]\nmax_retries = 0'
    fleet.writes(ONE, TWO, **{ONE: lines, TWO: lines})


def runs_of_all(proxy):
    """Return all runs, oldest first."""
    return proxy.query(
        "SELECT r.server_id AS server, r.started_at AS started, r.ready_at AS ready, r.ended_at AS ended"
        " FROM supervisor_app_run r ORDER BY r.started_at"
    )


def test_a_change_of_both_is_made_one_after_the_other_and_stops_at_one_that_fails(fleet):
    write(fleet)
    proxy = fleet.proxy.start()
    proxy.wait_for_line("[GATEWAY]")
    first = fleet.ready(ONE, TWO)
    asker = Asker(proxy.gateway_url)
    try:
        proxy.wait_for("the client is served", lambda: len(asker.codes) > 3)
        write(fleet, "-c", "512")
        both_down = []

        def changed():
            seen = {name: fleet.status(name) for name in (ONE, TWO)}
            both_down.append(all(one.get("status") != "ready" for one in seen.values()))
            return all(seen[n].get("status") == "ready" and seen[n]["pid"] != first[n]["pid"] for n in seen)

        proxy.wait_for("both run anew", changed)
        runs = runs_of_all(proxy)
        ended = sorted((run for run in runs if run["ended"]), key=lambda run: run["ended"])
        new = {run["server"]: run for run in runs if not run["ended"]}
        assert len(ended) == len(new) == 2
        assert new[ended[0]["server"]]["ready"] <= ended[1]["ended"], (
            "the first was ready before the second went"
        )
        assert not any(both_down)

        second = fleet.ready(ONE, TWO)
        write(fleet, "--fake-exit-after", "0", "-c", "256")

        def stays():
            seen = {name: fleet.status(name) for name in (ONE, TWO)}
            failed = [name for name in seen if seen[name].get("status") == "error"]
            rest = [name for name in seen if seen[name].get("detail", "").startswith("Stays as it is: ")]
            return seen if failed and rest else {}

        seen = proxy.wait_for("one failed, the other stays", stays)
        (other,) = [name for name in seen if seen[name]["status"] == "ready"]
        assert seen[other]["pid"] == second[other]["pid"]
        assert f"llama restart {other} --now" in seen[other]["detail"]

        write(fleet, "-c", "128")
        proxy.wait_for(
            "mended, both have the last one",
            lambda: all(
                fleet.status(name).get("status") == "ready"
                and fleet.status(name)["pid"] not in (first[name]["pid"], second[name]["pid"])
                for name in (ONE, TWO)
            ),
        )
    finally:
        codes = asker.finish()
    assert codes == {200}
