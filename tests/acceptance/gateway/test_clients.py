"""Programs as people have them, unmodified: through the gateway they get what the server itself would say."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess

import openai
import pytest
import requests

from tests.acceptance.gateway.askers import (
    MESSAGES,
    MODEL,
    NUMBERS,
    QUESTION,
    STREAMS,
    WHOLE,
    nobody,
    openai_client,
    openai_options,
)
from tests.acceptance.gateway.watching import busy_slots, wait_until_busy
from tests.deadline import DEADLINE

VARYING = re.compile(rb'"(timings|id_slot)":(\{[^}]*\}|-?\d+)')


@pytest.mark.parametrize("asker", WHOLE.values(), ids=WHOLE)
def test_an_answer_comes_whole(counting, asker):
    assert asker.ask(counting.gateway_url, nobody) == asker.told


@pytest.mark.parametrize("asker", STREAMS.values(), ids=STREAMS)
def test_a_stream_comes_whole(counting, asker):
    assert asker.ask(counting.gateway_url, nobody) == asker.told


def test_a_stream_has_the_very_bytes_of_the_server(counting):
    body = {"prompt": QUESTION, "n_predict": 8, "stream": True, "cache_prompt": False}
    through, direct = (
        requests.post(f"{url}/completion", json=body, headers=counting.engine_headers, timeout=DEADLINE)
        for url in (counting.gateway_url, counting.engine_url)
    )
    assert VARYING.sub(b"", through.content) == VARYING.sub(b"", direct.content)
    assert through.headers["Content-Type"] == direct.headers["Content-Type"]


def test_many_at_once_get_each_their_own_answer(counting):
    async def ask_all():
        async with openai.AsyncOpenAI(**openai_options(counting.gateway_url)) as client:
            asked = [
                client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=count)
                for count in range(1, 13)
            ]
            return await asyncio.gather(*asked)

    told = [answer.choices[0].message.content for answer in asyncio.run(ask_all())]
    assert told == ["".join(NUMBERS[:count]) for count in range(1, 13)]


def test_the_models_are_listed(counting):
    with openai_client(counting.gateway_url) as client:
        (listed,) = client.models.list()
        assert (listed.id, client.models.retrieve(listed.id).id) == ("default", "default")


def test_an_objection_of_the_server_is_passed_on_in_its_own_words(counting):
    body = {"messages": MESSAGES, "grammar": "root ::= ("}
    through, direct = (
        requests.post(
            f"{url}/v1/chat/completions", json=body, headers=counting.engine_headers, timeout=DEADLINE
        )
        for url in (counting.gateway_url, counting.engine_url)
    )
    assert (through.status_code, through.json()) == (400, direct.json())


@pytest.mark.parametrize(
    "flags", [["--http1.0"], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"]]
)
def test_curl_in_whatever_way_it_asks_is_answered(counting, flags):
    asked = (f"{counting.gateway_url}/completion", "--json", '{"prompt": "", "n_predict": 2}')
    done = subprocess.run(["curl", "-sS", *flags, *asked], capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"content":"1,2,"' in done.stdout


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_leaves_frees_the_server(counting, stream):
    body = json.dumps({"prompt": QUESTION, "n_predict": 10**6, "ignore_eos": True, "stream": stream})
    request = f"POST /completion HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    with socket.create_connection(("127.0.0.1", counting.gateway_port)) as client:
        client.sendall(request.encode())
        wait_until_busy(counting)
    counting.wait_for("it is free again", lambda: not busy_slots(counting))
