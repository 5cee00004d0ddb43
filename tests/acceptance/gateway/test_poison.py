"""A request that kills its server: it is found out, kept away, and takes nobody with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import openai
import pytest

from tests.acceptance.children import DEADLINE
from tests.acceptance.gateway.askers import MODEL, SCRIPTED, openai_client, wait_until_busy
from tests.acceptance.gateway.conftest import RECOVERS_FAST

POISON = "poison"
INNOCENT = 3
"""With the one that kills as many as the server has slots."""


def ask(proxy, question, **more):
    with openai_client(proxy.gateway_url) as client:
        return client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": question}], **more
        )


def refused(proxy, question, **more):
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ask(proxy, question, **more)
    return caught.value


def is_answered(proxy, question):
    try:
        return ask(proxy, question)
    except openai.UnprocessableEntityError:
        return None


def deaths(proxy):
    return [run for run in proxy.runs() if run["ended_at"]]


@pytest.fixture(scope="module")
def poisoned(make_shared):
    """Afterwards. `.error` is what was said of the poison, `.told` to those who were in flight with it."""
    proxy = make_shared(**RECOVERS_FAST)
    script = ("--fake-die-on", POISON, "--fake-token-seconds", "0.05", "--fake-while", "ill")
    proxy.script(*script)
    (proxy.directory / "ill").touch()
    proxy.start().wait_for_status("ready")
    seen = SimpleNamespace(proxy=proxy)
    with ThreadPoolExecutor(INNOCENT) as pool, proxy.recording(INNOCENT + 1) as seen.records:
        innocent = [pool.submit(ask, proxy, f"harmless {number}") for number in range(INNOCENT)]
        wait_until_busy(proxy, INNOCENT)
        seen.error = refused(proxy, POISON)
        seen.told = [one.result(DEADLINE).choices[0].message.content for one in innocent]
    seen.deaths = deaths(proxy)
    return seen


def test_who_was_in_flight_with_it_is_answered(poisoned):
    assert poisoned.told == [SCRIPTED] * INNOCENT


def test_it_is_found_out_after_three_deaths(poisoned):
    assert [run["signal"] for run in poisoned.deaths] == [11, 11, 11]


def test_it_is_refused_naming_the_crash_which_has_its_own_page(poisoned):
    incident = poisoned.error.body["incident"]
    assert poisoned.error.code == "quarantined"
    assert f"(incident {incident})" in poisoned.error.message
    assert int(incident) == poisoned.deaths[-1]["id"]
    staff = poisoned.proxy.login("reader")
    page = staff.get(f"{poisoned.proxy.url}/servers/default/runs/{incident}/", timeout=DEADLINE)
    assert page.status_code == 200
    assert "SIGSEGV" in page.text


def test_the_records_tell_the_one_from_the_others(poisoned):
    outcomes = sorted((record["outcome"], record["status"]) for record in poisoned.records)
    assert outcomes == [("quarantined", 422), *[("replayed", 200)] * INNOCENT]


def test_it_is_not_sent_again(poisoned):
    assert refused(poisoned.proxy, POISON).code == "quarantined"
    assert len(deaths(poisoned.proxy)) == len(poisoned.deaths)


def test_others_are_still_answered(poisoned):
    assert ask(poisoned.proxy, "anything else").choices[0].message.content == SCRIPTED


def test_another_that_asks_for_a_stream_is_found_out_as_well(poisoned):
    before = len(deaths(poisoned.proxy))
    error = refused(poisoned.proxy, f"more {POISON}", stream=True)
    assert error.code == "quarantined"
    assert len(deaths(poisoned.proxy)) == before + 3


def test_what_staff_release_is_sent_again(poisoned):
    proxy = poisoned.proxy
    (proxy.directory / "ill").unlink()
    staff = proxy.login("staff")
    refused(proxy, POISON)
    for row in proxy.query("SELECT * FROM supervisor_app_quarantinedrequest"):
        path = f"{proxy.url}/servers/default/quarantine/{row['id']}/release"
        assert staff.post(path, timeout=DEADLINE).status_code == 200

    proxy.wait_for("it is answered", lambda: is_answered(proxy, POISON))
