"""The programs that people use, as they come: each asks for the same answer and returns what it was told.

What is asked and answered is that of a model which counts, calls a tool and ends.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import requests

from tests.deadline import DEADLINE

MODEL = "default"
"""Every program names the server; those of llama.cpp name nothing."""
NUMBERS = [f"{number}," for number in range(1, 41)]
COUNTED = "".join(NUMBERS)
CALL = ("<tool_call>\n", '{"name": "report", "arguments": ', '{"counted": 40}}', "\n</tool_call>")
CALLED = [("report", {"counted": 40})]
PIECES = [*NUMBERS, *CALL]
"""Tokens that the model says."""
SPOKEN = "".join(PIECES)
"""The same, to who knows of no tools."""
QUESTION = "Count to forty."
MESSAGES: Any = [{"role": "user", "content": QUESTION}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "report",
            "description": "Takes how far you have counted.",
            "parameters": {
                "type": "object",
                "properties": {"counted": {"type": "integer"}},
                "required": ["counted"],
            },
        },
    }
]
SCRIPTED = "".join(f" word{number}" for number in range(8))
"""Answer of the scripted server to everything."""
INPUTS = ["How far can a llama count? Further than you think, if nobody interrupts it."] * 4

Heard = Callable[[], object]
"""Called with the first word of a stream."""


@dataclass(frozen=True, kw_only=True)
class Asker:
    ask: Callable[[str, Heard], Any]
    """Given the address and `Heard`. Raises what its users would have to deal with."""
    told: Any = SPOKEN
    """Result when all is well."""
    broken: type[Exception] | None = None
    """Streams: what is raised when an answer breaks off."""


class ToldError(Exception):
    """The stream came to its end, and that was an error event."""


def nobody() -> None:
    """Listens to the first word."""


class _Words:
    """Puts a stream's words together; the first is heard."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._words: list[str] = []

    def add(self, word: str | None) -> None:
        if not word:
            return
        self._words.append(word)
        if len(self._words) == 1:
            self._heard()

    def __str__(self) -> str:
        return "".join(self._words)


# --- openai --------------------------------------------------------------------------------------------


def openai_options(url: str, key: str = "none") -> dict[str, Any]:
    """A second try of its own would hide what became of the first."""
    return {"base_url": f"{url}/v1", "api_key": key, "max_retries": 0, "timeout": DEADLINE}


def openai_client(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(**openai_options(url, key))


def _calls(message: Any) -> list[tuple[str, Any]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]


def ask_openai(url: str, heard: Heard) -> Any:
    with openai_client(url) as client:
        (choice,) = client.chat.completions.create(model=MODEL, messages=MESSAGES).choices
    assert choice.finish_reason == "stop"
    return choice.message.content


def ask_openai_async(url: str, heard: Heard) -> Any:
    async def ask() -> Any:
        async with openai.AsyncOpenAI(**openai_options(url)) as client:
            return await client.chat.completions.create(model=MODEL, messages=MESSAGES)

    return asyncio.run(ask()).choices[0].message.content


def ask_openai_tools(url: str, heard: Heard) -> Any:
    with openai_client(url) as client:
        (choice,) = client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=TOOLS).choices
    assert choice.finish_reason == "tool_calls"
    return choice.message.content, _calls(choice.message)


def ask_openai_text(url: str, heard: Heard) -> Any:
    with openai_client(url) as client:
        return client.completions.create(model=MODEL, prompt=QUESTION, max_tokens=100).choices[0].text


def ask_openai_responses(url: str, heard: Heard) -> Any:
    with openai_client(url) as client:
        return client.responses.create(model=MODEL, input=QUESTION).output_text


def ask_openai_embeddings(url: str, heard: Heard) -> Any:
    """Return number and lengths of the embeddings. Their numbers differ in the last digits from one process to the next."""
    with openai_client(url) as client:
        answer = client.embeddings.create(model=MODEL, input=INPUTS)
    return [len(entry.embedding) for entry in answer.data]


def ask_openai_stream(url: str, heard: Heard) -> Any:
    words, finish = _Words(heard), None
    with (
        openai_client(url) as client,
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        ) as stream,
    ):
        for event in stream:
            for choice in event.choices:
                words.add(choice.delta.content)
                finish = choice.finish_reason
    return str(words), finish, event.usage and event.usage.completion_tokens


def ask_openai_stream_async(url: str, heard: Heard) -> Any:
    words = _Words(heard)

    async def ask() -> None:
        async with openai.AsyncOpenAI(**openai_options(url)) as client:
            stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
            async for event in stream:
                words.add(event.choices[0].delta.content)

    asyncio.run(ask())
    return str(words)


def ask_openai_stream_tools(url: str, heard: Heard) -> Any:
    """Ask with the helper that puts the pieces of calls together."""
    words = _Words(heard)
    with (
        openai_client(url) as client,
        client.chat.completions.stream(model=MODEL, messages=MESSAGES, tools=TOOLS) as stream,
    ):
        for event in stream:
            if event.type == "content.delta":
                words.add(event.delta)
        message = stream.get_final_completion().choices[0].message
    return str(words), _calls(message)


def ask_openai_stream_responses(url: str, heard: Heard) -> Any:
    words = _Words(heard)
    with (
        openai_client(url) as client,
        client.responses.create(model=MODEL, input=QUESTION, stream=True) as stream,
    ):
        for event in stream:
            if event.type == "response.output_text.delta":
                words.add(event.delta)
    return str(words), event.type


# --- anthropic -----------------------------------------------------------------------------------------


def anthropic_options(url: str, key: str = "none") -> dict[str, Any]:
    return {"base_url": url, "api_key": key, "max_retries": 0, "timeout": DEADLINE}


def ask_anthropic(url: str, heard: Heard) -> Any:
    with anthropic.Anthropic(**anthropic_options(url)) as client:
        answer = client.messages.create(model=MODEL, messages=MESSAGES, max_tokens=100)
    return answer.content[0].text, answer.stop_reason


def ask_anthropic_stream(url: str, heard: Heard) -> Any:
    words = _Words(heard)
    with (
        anthropic.Anthropic(**anthropic_options(url)) as client,
        client.messages.stream(model=MODEL, messages=MESSAGES, max_tokens=100) as stream,
    ):
        for word in stream.text_stream:
            words.add(word)
        return str(words), stream.get_final_message().stop_reason


# --- curl and what knows llama.cpp -----------------------------------------------------------------------


@contextmanager
def curl(url: str, body: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Raises subprocess.CalledProcessError."""
    command = ["curl", "--silent", "--show-error", "--no-buffer", url, "--json", json.dumps(body)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process
        output, complaint = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output, complaint)


def ask_curl(url: str, heard: Heard) -> Any:
    with curl(f"{url}/v1/chat/completions", {"messages": MESSAGES}) as process:
        assert process.stdout is not None
        answer = json.loads(process.stdout.read())
    return answer["choices"][0]["message"]["content"]


def ask_curl_stream(url: str, heard: Heard) -> Any:
    words = _Words(heard)
    with curl(f"{url}/v1/chat/completions", {"messages": MESSAGES, "stream": True}) as process:
        assert process.stdout is not None
        for event in answers_among(events(process.stdout)):
            if "choices" in event:
                words.add(event["choices"][0]["delta"].get("content"))
    return str(words)


def ask_raw(url: str, heard: Heard) -> Any:
    """Ask as programs for llama.cpp do: its own path, no model, no version."""
    answer = requests.post(f"{url}/completion", json={"prompt": QUESTION}, timeout=DEADLINE)
    answer.raise_for_status()
    return answer.json()["content"]


def ask_raw_stream(url: str, heard: Heard) -> Any:
    words, stopped = _Words(heard), False
    body = {"prompt": QUESTION, "stream": True}
    with requests.post(f"{url}/completion", json=body, stream=True, timeout=DEADLINE) as answer:
        for event in answers_among(events(answer.iter_lines())):
            words.add(event.get("content"))
            stopped = event.get("stop", False)
    return str(words), stopped


def events(lines: Iterable[bytes]) -> Iterator[Any]:
    """List the JSON that a stream carries."""
    for line in lines:
        if line.startswith(b"data: {"):
            yield json.loads(line.removeprefix(b"data: "))


def answers_among(told: Iterable[Any]) -> Iterator[Any]:
    """List the events. Raises ToldError for an error among them, when the stream has come to its end."""
    error = None
    for event in told:
        error = event.get("error")
        yield event
    if error is not None:
        raise ToldError(error["message"])


WHOLE = {
    "openai": Asker(ask=ask_openai),
    "openai, async": Asker(ask=ask_openai_async),
    "openai, tools": Asker(ask=ask_openai_tools, told=(COUNTED, CALLED)),
    "openai, completions": Asker(ask=ask_openai_text),
    "openai, responses": Asker(ask=ask_openai_responses),
    "openai, embeddings": Asker(ask=ask_openai_embeddings, told=[64] * len(INPUTS)),
    "anthropic": Asker(ask=ask_anthropic, told=(SPOKEN, "end_turn")),
    "curl": Asker(ask=ask_curl),
    "raw": Asker(ask=ask_raw),
}
STREAMS = {
    "openai": Asker(ask=ask_openai_stream, told=(SPOKEN, "stop", len(PIECES) + 1), broken=openai.APIError),
    "openai, async": Asker(ask=ask_openai_stream_async, broken=openai.APIError),
    "openai, tools": Asker(ask=ask_openai_stream_tools, told=(COUNTED, CALLED), broken=openai.APIError),
    "openai, responses": Asker(
        ask=ask_openai_stream_responses, told=(SPOKEN, "response.completed"), broken=openai.APIError
    ),
    "anthropic": Asker(ask=ask_anthropic_stream, told=(SPOKEN, "end_turn"), broken=anthropic.APIStatusError),
    "curl": Asker(ask=ask_curl_stream, broken=ToldError),
    "raw": Asker(ask=ask_raw_stream, told=(SPOKEN, True), broken=ToldError),
}
