"""Answers that go on without their clients. Pure.

llama-server keeps a stream by the id of its conversation, which its client names in `X-Conversation-Id`, and
gives it to whoever asks for it by that id.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOOKUP_PATH = "/v1/streams/lookup"
CONTROL_PATH = "/v1/chat/completions/control"


def conversation_in(query: str) -> str:
    """Name the conversation whose stream is asked for; empty: none is."""
    return parse_qs(query).get("conv_id", [""])[0]


def query_of_key(key: int, query: str) -> str:
    """The same text about the conversation of this key with that name."""
    pairs = [pair for pair in query.split("&") if unquote_plus(pair.partition("=")[0]) != "conv_id"]
    conversation = quote(of_key(key, conversation_in(query)), safe="")
    return "&".join([f"conv_id={conversation}", *filter(None, pairs)])


def of_key(key: int, conversation: str) -> str:
    """The name by which servers know it: two keys that use one name mean two conversations."""
    return f"key{key}:{conversation}"


def lookup_of_key(key: int, question: bytes) -> bytes:
    """Raises what `UNUSABLE` names when it is none."""
    asked = json.loads(question)
    return json.dumps(
        {"conversation_ids": [of_key(key, str(name)) for name in asked["conversation_ids"]]}
    ).encode()


def without_key(key: int, stream: dict[str, Any]) -> dict[str, Any]:
    """The stream as its client knows it."""
    name = str(stream.get("conversation_id", ""))
    return {**stream, "conversation_id": name.removeprefix(of_key(key, ""))}


def makes_it(told: bytes) -> bool:
    """Does the server that said this of such an order make that answer, whether it could obey or not?

    Raises ValueError and RecursionError.
    """
    said = json.loads(told)
    return isinstance(said, dict) and "no active completion" not in str(said.get("message", ""))


def lookup(conversation: str) -> bytes:
    """The question after one of them."""
    return json.dumps({"conversation_ids": [conversation]}).encode()


def streams_in(told: bytes) -> list[dict[str, Any]]:
    """The answer. Raises ValueError, RecursionError."""
    streams = json.loads(told)
    return [each for each in streams if isinstance(each, dict)] if isinstance(streams, list) else []


def newest(conversation: str, told: Iterable[Sequence[dict[str, Any]]]) -> int | None:
    """Find which of several servers has its stream, by what each told; the latest of several counts."""
    found = [
        (_number(stream.get("started_at")), number)
        for number, streams in enumerate(told)
        for stream in streams
        if stream.get("conversation_id") == conversation
    ]
    return max(found)[1] if found else None


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0.0
