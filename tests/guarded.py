"""Daphne within limits that a test sets, around a program that is not ours: `… PORT LIMITS APPLICATION`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import django

from supervisor_app.web.guarded import GuardedServer, install
from supervisor_app.web.limits import WebLimits


async def talkative(scope: Any, receive: Any, send: Any) -> None:
    """Answers each message of a WebSocket with 100 kB."""
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "bytes": b"x" * 100_000})


async def deaf(scope: Any, receive: Any, send: Any) -> None:
    """Takes the first message, says so, and no more."""
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
    await send({"type": "websocket.send", "bytes": b"heard"})
    await asyncio.Event().wait()


async def slow(scope: Any, receive: Any, send: Any) -> None:
    """Begins an answer to HTTP that has no end."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await asyncio.Event().wait()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llamaproxy.settings")  # refusals are worded by Django
    django.setup()
    port, limits, name = sys.argv[1:]
    install()
    GuardedServer(
        application=globals()[name],
        endpoints=[f"tcp:port={port}:interface=127.0.0.1"],
        limits=WebLimits(**json.loads(limits)),
        verbosity=0,
    ).run()
