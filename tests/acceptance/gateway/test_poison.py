"""A request that kills its server: it is found out, kept away, and takes nobody with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import openai
import pytest

from tests.acceptance.gateway.askers import MODEL, SCRIPTED, openai_client
from tests.acceptance.gateway.conftest import RECOVERS_FAST
from tests.acceptance.gateway.watching import wait_until_busy
from tests.deadline import DEADLINE

POISON = "poison"
INNOCENT = 3
"""Innocent requests: with the one that kills as many as the server has slots."""


class Poisoned:
    """`proxy` and one client of its gateway."""

    def __init__(self, proxy, client):
        self.proxy = proxy
        self._client = client

    def ask(self, question, **more):
        messages = [{"role": "user", "content": question}]
        return self._client.chat.completions.create(model=MODEL, messages=messages, **more)

    def told(self, question):
        return self.ask(question).choices[0].message.content

    def refused(self, question, **more):
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            self.ask(question, **more)
        return caught.value

    @property
    def deaths(self):
        return [run for run in self.proxy.runs() if run["ended_at"]]


@pytest.fixture(scope="module")
def poisoned(make_shared):
    """Afterwards. `.error` is what was said of the poison, `.answers` to those who were in flight with it."""
    proxy = make_shared(**RECOVERS_FAST)
    proxy.script("--fake-die-on", POISON, "--fake-token-seconds", "0.05", "--fake-while", "ill")
    (proxy.directory / "ill").touch()
    proxy.start().wait_for_status("ready")
    with openai_client(proxy.gateway_url) as client:
        seen = Poisoned(proxy, client)
        with ThreadPoolExecutor(INNOCENT) as pool, proxy.recording(INNOCENT + 1) as seen.records:
            answers = [pool.submit(seen.told, f"harmless {number}") for number in range(INNOCENT)]
            wait_until_busy(proxy, INNOCENT)
            seen.error = seen.refused(POISON)
            seen.answers = [answer.result(DEADLINE) for answer in answers]
        seen.first_deaths = seen.deaths
        yield seen


def test_requests_in_flight_with_a_deadly_one_are_answered(poisoned):
    assert poisoned.answers == [SCRIPTED] * INNOCENT


def test_a_deadly_request_is_found_out_after_three_deaths(poisoned):
    assert [run["signal"] for run in poisoned.first_deaths] == [11, 11, 11]


def test_a_deadly_request_is_refused_naming_the_crash_which_has_its_own_page(poisoned):
    run = poisoned.error.body["incident"]
    assert poisoned.error.code == "quarantined"
    assert f"(run {run})" in poisoned.error.message
    assert int(run) == poisoned.first_deaths[-1]["id"]
    staff = poisoned.proxy.login("reader")
    page = staff.get(f"{poisoned.proxy.url}/servers/default/runs/{run}/", timeout=DEADLINE)
    assert page.status_code == 200
    assert "SIGSEGV" in page.text


def test_the_records_tell_the_one_from_the_others(poisoned):
    outcomes = sorted((record["outcome"], record["status"]) for record in poisoned.records)
    assert outcomes == [("quarantined", 422), *[("replayed", 200)] * INNOCENT]


def test_a_deadly_request_is_not_sent_again(poisoned):
    assert poisoned.refused(POISON).code == "quarantined"
    assert len(poisoned.deaths) == len(poisoned.first_deaths)


def test_others_are_still_answered(poisoned):
    assert poisoned.told("anything else") == SCRIPTED


def test_another_that_asks_for_a_stream_is_found_out_as_well(poisoned):
    before = len(poisoned.deaths)
    error = poisoned.refused(f"more {POISON}", stream=True)
    assert error.code == "quarantined"
    assert len(poisoned.deaths) == before + 3


def test_a_request_that_staff_release_is_sent_again(poisoned):
    proxy = poisoned.proxy
    (proxy.directory / "ill").unlink()
    poisoned.refused(POISON)
    staff = proxy.login("staff")
    for row in proxy.query("SELECT * FROM supervisor_app_quarantinedrequest"):
        path = f"{proxy.url}/servers/default/quarantine/{row['id']}/release"
        assert staff.post(path, timeout=DEADLINE).status_code == 200

    def answered():
        with suppress(openai.UnprocessableEntityError):
            return poisoned.told(POISON)

    assert proxy.wait_for("it is answered", answered) == SCRIPTED
