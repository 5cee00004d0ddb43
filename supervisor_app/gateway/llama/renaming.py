"""An answer that names its model as its client asked for it. Pure.

llama-server says its own name of the model, or the path of its file, whatever a request asks for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from supervisor_app.gateway.llama.hints import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

# Within a text its quotes would be escaped, so this is never part of one.
_KEY = b'"model":"'
_MODEL = re.compile(rb'"model":("(?:[^"\\]|\\.)*+")')
_LONGEST = 4096
"""Bytes of a name that are waited for."""
_string = msgspec.json.Decoder(str)


class Renaming:
    """Takes the pieces of one answer, cut anywhere, and gives them back with another name of the model."""

    __slots__ = ("_field", "_kept", "_own_names")

    def __init__(self, name: str, own_names: Callable[[], Collection[str]]) -> None:
        """`own_names`: by which the server may call its model. Any other `model` is none of ours."""
        self._field = b'"model":' + msgspec.json.encode(name)
        self._own_names = own_names
        self._kept = b""

    def feed(self, piece: bytes) -> bytes:
        data = self._kept + piece
        end = _end_of_whole(data)
        self._kept = data[end:]
        return _MODEL.sub(self._renamed, data[:end])

    def end(self) -> bytes:
        """Return what was kept back."""
        kept, self._kept = self._kept, b""
        return kept

    def _renamed(self, found: re.Match[bytes]) -> bytes:
        try:
            said = _string.decode(found[1])
        except UNREADABLE:
            return found[0]
        return self._field if said in self._own_names() else found[0]


def _end_of_whole(data: bytes) -> int:
    """Return where the beginning of a field stands whose rest has yet to come; else the end."""
    begin, at = len(data) - len(_KEY), data.rfind(_KEY)
    if at >= 0:
        field = _MODEL.match(data, at)
        if field is None:
            return at if len(data) - at <= _LONGEST else len(data)
        begin = max(begin, field.end())
    at = data.find(b'"', max(0, begin))
    while at >= 0 and not _KEY.startswith(data[at:]):
        at = data.find(b'"', at + 1)
    return len(data) if at < 0 else at
