"""Answer a query for lines of a log: here, or by the supervisor of the node on which the log lies."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from django.db import close_old_connections

from supervisor_app.fleet.events import supervisor_channel
from supervisor_app.fleet.layers import channel_layer
from supervisor_app.fleet.logfiles import find_log, reading
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.logs.query import BadQueryError, query_of
from supervisor_app.logs.search import BadFilterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.common.outage import Outage

ANSWER_SECONDS = 4.0
"""Time for the answer of another host; a search takes one second there."""
Answer = tuple[int, dict[str, Any]]
"""Status as of HTTP, and the JSON."""


def lines_here(server: LlamaServer, given: Mapping[str, str]) -> Answer:
    """Answer from the log on this host."""
    try:
        query = query_of(given)
        found = find_log(server)
        with reading(server, found) as reader:
            return 200, {**reader.answer(query), "warning": found.note}
    except (BadFilterError, BadQueryError) as error:
        return _error(400, "bad_query", str(error), "See docs/logs.md.")
    except FileNotFoundError:
        hint = found.note or f"It is on node {server.node}, or the server has not been started yet."
        return _error(404, "no_log", f"There is no log of {server.name!r} here.", hint)
    except OSError as error:
        return _error(503, "log_unreadable", f"The log cannot be read: {error}.", "Look at its file.")


def _error(status: int, code: str, message: str, hint: str) -> Answer:
    return status, {"error": {"code": code, "message": message, "hint": hint}}


async def lines_there(server: LlamaServer, given: Mapping[str, str]) -> Answer:
    """Answer from the log on another host, or say that its supervisor does not answer."""
    message = {"type": "log.asked", "server": server.name, "given": dict(given)}
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            layer = channel_layer()
            channel = await layer.new_channel()
            await layer.send(supervisor_channel(server.node), {**message, "answer": channel})
            told = await layer.receive(channel)
    except Exception:  # a client library's own kind, or nobody who answers
        hint = f"On that host: llama logs {server.name} -f. Without Redis, hosts do not hear each other."
        said = f"The log lies on node {server.node}, whose supervisor does not answer."
        return _error(404, "no_log", said, hint)
    return told["status"], {**told["body"], "node": server.node}


async def answer_other_host(message: dict[str, Any], outage: Outage) -> None:
    """Answer a question of `lines_there`."""
    try:
        status, body = await asyncio.to_thread(_answer, message["server"], message["given"])
        told = {"type": "log.told", "status": status, "body": body}
        await channel_layer().send(message["answer"], told)
    except Exception as error:  # the one who asks is told after `ANSWER_SECONDS` that nobody answers
        outage.failed(error)
    else:
        outage.over()


def _answer(name: str, given: Mapping[str, str]) -> Answer:
    close_old_connections()
    try:
        server = LlamaServer.objects.filter(name=name).first()
        if server is None:
            return _error(404, "no_such_server", f"There is no server {name!r}.", "It was deleted.")
        return lines_here(server, given)
    finally:
        close_old_connections()
