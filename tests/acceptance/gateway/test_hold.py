"""A server that is not ready: who asks waits for it, sees that it is worth it, and is told when it is not."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import anthropic
import openai
import psutil
import pytest
import requests

from tests.acceptance.gateway.askers import MESSAGES, MODEL, SCRIPTED, anthropic_options, openai_client
from tests.acceptance.gateway.conftest import RECOVERS_FAST
from tests.acceptance.gateway.watching import Stream, ask_long, wait_until_busy, wait_until_held
from tests.deadline import DEADLINE

CRASH = "crash-while-this-exists"
MAX_QUEUE = 3


def ask(proxy):
    with openai_client(proxy.gateway_url) as client:
        return client.chat.completions.create(model=MODEL, messages=MESSAGES).choices[0].message.content


def ask_stream(proxy):
    with (
        openai_client(proxy.gateway_url) as client,
        client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream,
    ):
        return "".join(event.choices[0].delta.content or "" for event in stream)


def refused(proxy):
    """The exception that openai's client makes of it."""
    with pytest.raises(openai.APIStatusError) as caught:
        ask(proxy)
    return caught.value


@contextmanager
def down(proxy):
    """Let the server crash again and again in the block."""
    crash = proxy.directory / CRASH
    crash.touch()
    psutil.Process(proxy.wait_for_status("ready")["pid"]).kill()
    proxy.wait_for_status("crashed")
    try:
        yield
    finally:
        crash.unlink()
    proxy.wait_for_status("ready")


# --- Worth waiting for -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shaky(make_shared):
    """A proxy that loads for a moment. `.at_start` was answered to those who asked before it was ready."""
    proxy = make_shared(max_queue=MAX_QUEUE, **RECOVERS_FAST)
    proxy.script("--fake-crash-file", CRASH, "--fake-load-seconds", "0.5")
    proxy.start().wait_for_line("[GATEWAY]")
    proxy.at_start = ask(proxy)
    return proxy


@pytest.fixture(scope="module")
def waited(shaky):
    """Answers to those who asked while it was down, for longer than clients are patient without a sign."""
    url, body = f"{shaky.gateway_url}/v1/chat/completions", {"messages": MESSAGES, "stream": True}
    seen = SimpleNamespace()
    with ThreadPoolExecutor(MAX_QUEUE) as pool, shaky.recording(MAX_QUEUE + 1) as seen.records:
        with down(shaky):
            asked = [pool.submit(one, shaky) for one in (ask, ask_stream)]
            opening = pool.submit(requests.post, url, json=body, stream=True, timeout=DEADLINE)
            wait_until_held(shaky, MAX_QUEUE)
            seen.refused = refused(shaky)
            seen.answer = opening.result(DEADLINE)
            lines = seen.answer.iter_lines()
            seen.comment = next(lines)
        seen.rest = list(lines)
        seen.told = [one.result(DEADLINE) for one in asked]
        seen.answer.close()
    return seen


def test_a_request_during_the_start_is_answered_when_the_server_is_ready(shaky):
    assert shaky.at_start == SCRIPTED
    first = shaky.wait_for("it is recorded", shaky.records)[0]
    assert (first["outcome"], first["status"], first["replays"]) == ("held", 200, 0)


def test_a_request_during_crashes_is_answered_when_the_server_is_ready(waited):
    assert waited.told == [SCRIPTED, SCRIPTED]


def test_a_stream_that_waits_gets_its_head_and_a_comment_that_says_why(waited):
    assert waited.answer.status_code == 200
    assert waited.answer.headers["Content-Type"] == "text/event-stream"
    assert re.match(": waiting for default: .*Retry \\d+ of 1000", waited.comment.decode())


def test_the_stream_that_was_waited_for_follows_the_comments(waited):
    assert waited.rest[-2:] == [b"data: [DONE]", b""]
    assert b"word7" in b"".join(waited.rest)


def test_the_time_that_requests_waited_is_recorded(waited):
    held = [record for record in waited.records if record["outcome"] == "held"]
    assert len(held) == MAX_QUEUE
    assert all(record["held_ms"] > 5000 for record in held)


def test_a_request_more_than_may_wait_is_refused_with_429(waited):
    assert isinstance(waited.refused, openai.RateLimitError)
    assert waited.refused.code == "queue_full"
    assert int(waited.refused.response.headers["Retry-After"]) > 0


def test_a_client_that_leaves_the_queue_makes_room(shaky):
    with ThreadPoolExecutor(1) as pool:
        with down(shaky):
            answer = pool.submit(ask, shaky)
            wait_until_held(shaky)
            with pytest.raises(requests.Timeout):
                requests.post(f"{shaky.gateway_url}/completion", json={}, timeout=0.2)
            wait_until_held(shaky)
        assert answer.result(DEADLINE) == SCRIPTED


# --- Restarted by somebody -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def staff(shared_counting):
    return shared_counting.login("staff")


def restart(proxy, staff):
    """Restart it without waiting for what is in flight."""
    assert staff.post(f"{proxy.url}/api/servers/default/restart?now=1", timeout=DEADLINE).status_code == 202


def test_a_restart_is_a_pause_for_who_waits_for_a_whole_answer(counting, staff):
    with ThreadPoolExecutor(1) as pool, counting.recording() as records:
        answer = pool.submit(ask_long, counting, 300)
        wait_until_busy(counting)
        restart(counting, staff)
        assert answer.result(DEADLINE) == 300
    assert records[0]["replays"] == 1


def test_a_stream_that_a_restart_cuts_fails_for_its_reader(counting, staff):
    with Stream(counting) as stream:
        stream.goes_on()
        restart(counting, staff)
        stream.wait()
    assert stream.tokens is None
    assert stream.error["code"] == "upstream_crashed"


# --- Hopeless --------------------------------------------------------------------------------------------


def test_a_waiting_client_is_told_of_a_server_given_up_in_the_supervisors_words(fake):
    fake.script("--fake-crash-file", CRASH, max_retries=2, retry_backoff_ms=300)
    pid = fake.start().wait_for_status("ready")["pid"]
    (fake.directory / CRASH).touch()
    with ThreadPoolExecutor(1) as pool, fake.events() as events:
        psutil.Process(pid).kill()
        events.wait_for_status("crashed")
        waiting = pool.submit(refused, fake)
        detail = fake.wait_for_status("error")["detail"]
        for error in (waiting.result(DEADLINE), refused(fake)):
            assert (error.status_code, error.code) == (503, "server_unavailable")
            assert "Gave up after 2 retries" in error.message
            assert detail in error.message
            assert int(error.response.headers["Retry-After"]) > 0


def test_a_server_that_somebody_stopped_is_not_waited_for(shaky):
    shaky.llama("stop")
    detail = shaky.wait_for_status("initial")["detail"]
    error = refused(shaky)
    shaky.llama("start")
    shaky.wait_for_status("ready")
    assert (error.status_code, error.code) == (503, "server_unavailable")
    assert detail in error.message


def test_sdks_do_not_try_again_where_only_a_person_can_help(shaky):
    shaky.llama("stop")
    shaky.wait_for_status("initial")
    with shaky.recording(2) as records:
        with pytest.raises(openai.InternalServerError), openai_client(shaky.gateway_url) as client:
            client.with_options(max_retries=4).chat.completions.create(model=MODEL, messages=MESSAGES)
        options = {**anthropic_options(shaky.gateway_url), "max_retries": 4}
        with pytest.raises(anthropic.InternalServerError), anthropic.Anthropic(**options) as client:
            client.messages.create(model=MODEL, messages=MESSAGES, max_tokens=9)
    shaky.llama("start")
    shaky.wait_for_status("ready")
    assert [record["status"] for record in records] == [503, 503]


def test_waiting_has_an_end(fake):
    fake.script("--fake-load-seconds", "3600", hold_seconds=1)
    fake.start().wait_for_line("[GATEWAY]")
    error = refused(fake)
    assert (error.status_code, error.code) == (503, "hold_timeout")
    assert "Not ready within 1 s. Loading the model." in error.message
    assert int(error.response.headers["Retry-After"]) > 0
