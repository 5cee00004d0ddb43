"""A server that dies under its clients: whole answers come all the same, broken streams never look whole."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count, cycle
from typing import Any

import anthropic
import openai
import psutil
import pytest
import requests

from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.gateway.askers import (
    MODEL,
    QUESTION,
    SPOKEN,
    STREAMS,
    WHOLE,
    anthropic_options,
    events,
    nobody,
    openai_client,
    openai_options,
)
from tests.acceptance.gateway.conftest import RECOVERS_FAST
from tests.acceptance.gateway.watching import ask_long, ends_as, metric, wait_until_busy
from tests.deadline import DEADLINE


def lives(pid):
    with suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def killing(proxy):
    """Return a call that kills the process that is ready now. For a moment after a kill, the status is still that of the dead."""

    def find():
        status = proxy.status()
        return status if status["status"] == "ready" and lives(status["pid"]) else {}

    return psutil.Process(proxy.wait_for("a living process that is ready", find)["pid"]).kill


@contextmanager
def killed_at_work(proxy):
    """Ask, in the block, a server that is killed as soon as it has begun to work on the question.

    Yields the future of that: on a busy machine an answer may be over before.
    """
    kill = killing(proxy)

    def kill_it():
        wait_until_busy(proxy)
        kill()

    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_it)
        yield killed
        killed.result(DEADLINE)


def ask_until_broken(asker, proxy):
    """Kills the server at the first word. On a busy machine all may have been said before that is read."""
    while True:
        assert asker.ask(proxy.gateway_url, killing(proxy)) == asker.told


# --- One client, one kill ------------------------------------------------------------------------------


@pytest.mark.parametrize("asker", WHOLE.values(), ids=WHOLE)
def test_a_client_that_waits_for_a_whole_answer_does_not_notice_a_kill(counting, asker):
    seen = replayed(counting)
    while replayed(counting) == seen:
        with killed_at_work(counting) as killed:
            while not killed.done():
                assert asker.ask(counting.gateway_url, nobody) == asker.told


def replayed(proxy):
    return metric(proxy, "llamaproxy_requests_total", outcome="replayed")


@pytest.mark.parametrize("asker", STREAMS.values(), ids=STREAMS)
def test_a_stream_that_is_killed_in_the_middle_fails_for_its_reader(counting, asker):
    with ends_as(counting, "upstream_crashed"), pytest.raises(asker.broken):
        ask_until_broken(asker, counting)


def test_a_broken_stream_says_what_happened_and_where_to_read_about_it(counting):
    with pytest.raises(openai.APIError) as caught:
        ask_until_broken(STREAMS["openai"], counting)
    assert "died while answering and is being restarted: send it again" in caught.value.message
    assert (caught.value.type, caught.value.code) == ("server_error", "upstream_crashed")
    body: Any = caught.value.body
    assert (body["retryable"], body["tokens_so_far"] > 0) == (True, True)
    died = f"SELECT * FROM supervisor_app_run WHERE id = {body['incident']} AND ended_at"
    (run,) = counting.wait_for("the crash is in the history", lambda: counting.query(died))
    assert run["failure_kind"] == "killed_by_signal"


def test_clients_of_anthropic_are_told_in_words_after_which_they_try_again(counting):
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask_until_broken(STREAMS["anthropic"], counting)
    told: Any = caught.value.body
    assert (told["type"], told["error"]["type"]) == ("error", "overloaded_error")
    assert "send it again" in told["error"]["message"]


def test_a_response_that_breaks_fails_before_the_error_is_told(counting):
    kill, told = killing(counting), []
    body = {"model": MODEL, "input": QUESTION, "stream": True, "ignore_eos": True, "max_output_tokens": 5000}
    with requests.post(
        f"{counting.gateway_url}/v1/responses", json=body, stream=True, timeout=DEADLINE
    ) as answer:
        for event in events(answer.iter_lines()):  # to the end of the body, which is in good order
            told.append(event)
            if len(told) == 8:
                kill()
    assert [event["type"] for event in told[-2:]] == ["response.failed", "error"]
    began, failed = told[0]["response"], told[-2]["response"]
    assert (failed["id"], failed["status"], failed["error"]["code"]) == (
        began["id"],
        "failed",
        "server_error",
    )


def test_a_stream_that_is_killed_before_its_first_word_comes_whole(counting):
    # A prompt that is in no cache: reading it takes long.
    question = "".join(uuid.uuid4().hex for _ in range(10))
    with killed_at_work(counting), openai_client(counting.gateway_url) as client:
        stream = client.completions.create(model=MODEL, prompt=question, max_tokens=100, stream=True)
        assert "".join(event.choices[0].text for event in stream) == SPOKEN


def test_being_killed_from_outside_again_and_again_makes_nobody_a_suspect(counting):
    with counting.recording() as records, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask_long, counting, 300)
        for _ in range(3):
            with killed_at_work(counting):
                pid = counting.status()["pid"]
            counting.wait_for_new_pid(pid)
        assert answer.result(DEADLINE) == 300
    (record,) = records
    assert (record["outcome"], record["replays"]) == ("replayed", 3)


# --- Many clients, many kills --------------------------------------------------------------------------

CLIENTS, KILLS = 50, 20
BETWEEN = 10
"""Requests that are answered between two kills, at least."""
TOKENS = 60
"""Tokens of each answer: the model would go on for ever."""


class Crowd:
    """Programs that ask `proxy` again and again until told to stop."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.results = Counter()
        self.oddities = []
        self.stopping = False
        self._numbers = count()

    @property
    def answered(self):
        return sum(self.results.values())

    def wait_for_answers(self, number):
        """Wait for so many more answers."""
        enough = self.answered + number
        self.proxy.wait_for(f"{number} answers", lambda: self.answered >= enough, pause=0.005)

    async def run(self):
        kinds = cycle((self.chat, self.stream, self.messages, self.message_stream))
        async with (
            openai.AsyncOpenAI(**openai_options(self.proxy.gateway_url)) as one,
            anthropic.AsyncAnthropic(**anthropic_options(self.proxy.gateway_url)) as other,
        ):
            await asyncio.gather(*(self.ask_on(next(kinds), one, other) for _ in range(CLIENTS)))

    async def ask_on(self, ask, one, other):
        while not self.stopping:
            question = [{"role": "user", "content": f"{next(self._numbers)}"}]
            try:
                tokens = await ask(one, other, messages=question, model=MODEL, max_tokens=TOKENS)
                result = "whole" if tokens == TOKENS else "short"
            except (openai.APIError, anthropic.APIError) as error:
                result = "failed"
                self.oddities.append(f"{ask.__name__}: {error!r}")
            self.results[ask.__name__, result] += 1

    async def chat(self, one, other, **asked):
        return (await one.chat.completions.create(**asked)).usage.completion_tokens

    async def messages(self, one, other, **asked):
        return (await other.messages.create(**asked)).usage.output_tokens

    async def stream(self, one, other, **asked):
        words = 0
        async for event in await one.chat.completions.create(**asked, stream=True):
            words += bool(event.choices[0].delta.content)
        return words

    async def message_stream(self, one, other, **asked):
        async with other.messages.stream(**asked) as stream:
            return len([word async for word in stream.text_stream])


@pytest.fixture(scope="module")
def crowd(make_shared, engine, model):
    """A crowd after all kills."""
    proxy = make_shared(
        llama_model_path=str(model),
        llama_server_args=[*ENGINE_ARGS, "-c", "8192", "-np", "4"],
        **RECOVERS_FAST,
    )
    proxy.start().wait_for_line("[GATEWAY]")
    crowd = Crowd(proxy)
    asking = threading.Thread(target=lambda: asyncio.run(crowd.run()))
    asking.start()
    try:
        pid = 0
        for _ in range(KILLS):
            pid = proxy.wait_for_new_pid(pid)["pid"]
            crowd.wait_for_answers(BETWEEN)
            psutil.Process(pid).kill()
        proxy.wait_for_new_pid(pid)
    finally:
        crowd.stopping = True
        asking.join()
    return crowd


def test_no_whole_answer_of_fifty_clients_fails_in_twenty_kills(crowd):
    assert crowd.results["chat", "whole"] > KILLS
    assert crowd.results["messages", "whole"] > KILLS
    failed = [oddity for oddity in crowd.oddities if "stream" not in oddity]
    assert failed == []


def test_no_stream_of_fifty_clients_ends_clean_but_short_in_twenty_kills(crowd):
    assert crowd.results["stream", "whole"] > KILLS
    assert crowd.results["message_stream", "whole"] > KILLS
    assert [key for key in crowd.results if key[1] == "short"] == []
    assert {oddity for oddity in crowd.oddities if "ended before its answer was whole" not in oddity} == set()


def test_each_of_all_those_requests_is_recorded_once(crowd):
    proxy = crowd.proxy
    records = proxy.wait_for(
        "all are recorded", lambda: len(proxy.records()) >= crowd.answered and proxy.records()
    )
    assert len(records) == crowd.answered
    outcomes = Counter(record["outcome"] for record in records)
    # A stream may have said all when its server dies, and not yet that this is its end.
    assert outcomes["upstream_crashed"] >= len(crowd.oddities)
    assert outcomes["replayed"] > 0
    assert outcomes.keys() <= {"ok", "held", "replayed", "upstream_crashed"}


def test_each_kill_is_in_the_history(crowd):
    runs = crowd.proxy.runs()
    assert [run["failure_kind"] for run in runs] == ["killed_by_signal"] * KILLS + [""]
