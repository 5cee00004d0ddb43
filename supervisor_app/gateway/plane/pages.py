"""Header fields that let pages read an answer: the door decides, whatever the server says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.gateway.problem import cors_fields

if TYPE_CHECKING:
    from supervisor_app.gateway.access.door import Door
    from supervisor_app.gateway.http.request_heads import RequestHead

CREDENTIALS = b"Access-Control-Allow-Credentials: true\r\n"


def page_fields(door: Door, head: RequestHead) -> bytes:
    """Header lines for the page that asks; none for a program, or for a page that may not read it."""
    origin = head.text(b"origin")
    if not origin or not door.admits_origin(origin):
        return b""
    return cors_fields(origin) + (CREDENTIALS if door.knows_origin(origin) else b"")
