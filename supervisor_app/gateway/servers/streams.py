"""Find which of several servers has a stream or makes an answer, by asking them all."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from supervisor_app.gateway.llama.conversations import (
    CONTROL_PATH,
    LOOKUP_PATH,
    lookup,
    lookup_of_key,
    makes_it,
    newest,
    streams_in,
    without_key,
)
from supervisor_app.gateway.servers.fetch import UNUSABLE, FetchError, fetch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.gateway.servers.backend import Backend

SECONDS = 2.0
"""Time for an answer: servers that hang or know of no such thing have none."""


async def holder_of(conversation: str, servers: Sequence[Backend]) -> Backend | None:
    """Find the server that makes an answer of the conversation; None: no server that could be asked does."""
    ready = [backend for backend in servers if backend.facts.ready]
    told = await _ask_all(ready, lookup(conversation))
    number = newest(conversation, told)
    return None if number is None else ready[number]


async def streams_of_all(question: bytes, servers: Sequence[Backend], key: int | None) -> bytes:
    """List the streams of all servers, as one server would; only those of this key, if there is one."""
    if key is not None:
        try:
            question = lookup_of_key(key, question)
        except UNUSABLE:
            return b"[]"
    told = await _ask_all([backend for backend in servers if backend.facts.ready], question)
    found = [stream for streams in told for stream in streams]
    return json.dumps(found if key is None else [without_key(key, stream) for stream in found]).encode()


async def done_by_one_of(order: bytes, servers: Sequence[Backend]) -> bytes | None:
    """Let the server that makes the answer carry out an order; return what it says, None: none does."""
    ready = [backend for backend in servers if backend.facts.ready]
    told = await asyncio.gather(*(_order(backend, order) for backend in ready))
    return next((answer for answer in told if answer), None)


async def _order(backend: Backend, order: bytes) -> bytes:
    """Empty: it has no such answer, so nothing was done."""
    try:
        told = await fetch(backend, CONTROL_PATH, order, seconds=SECONDS)
        return told if makes_it(told) else b""
    except (FetchError, *UNUSABLE):
        return b""


async def _ask_all(servers: Sequence[Backend], question: bytes) -> list[list[dict[str, Any]]]:
    return await asyncio.gather(*(_ask(backend, question) for backend in servers))


async def _ask(backend: Backend, question: bytes) -> list[dict[str, Any]]:
    try:
        return streams_in(await fetch(backend, LOOKUP_PATH, question, seconds=SECONDS))
    except (FetchError, *UNUSABLE):
        return []
