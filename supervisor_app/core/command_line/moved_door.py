"""Flags that move a server's door to where nobody of ours knocks. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core.command_line.argv import spelled

if TYPE_CHECKING:
    from collections.abc import Iterable

_FLAGS = {
    "--api-prefix": "its paths begin with a prefix then, and llamaproxy asks for /health",
    "--ssl-key-file": "it speaks TLS then, and llamaproxy speaks plain HTTP with it on one machine",
    "--ssl-cert-file": "it speaks TLS then, and llamaproxy speaks plain HTTP with it on one machine",
}
INSTEAD = "Put prefixes and TLS in front of the gateway instead."


def moved_door(args: Iterable[str]) -> str:
    """Why a server with these flags could not be reached, as part of a sentence; empty when it could."""
    for arg in args:
        flag = spelled(arg)
        if flag in _FLAGS:
            return f"{flag} cannot be used: {_FLAGS[flag]}"
    return ""
