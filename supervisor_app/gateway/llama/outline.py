"""The outline of a body that is too long to keep, made while it comes in pieces. Pure.

It says all that `hints_of` reads of the whole: what is long or lies deep is left out. So a body of any length
is read by the same rules as a short one, in as much memory as its outline takes.
"""

from __future__ import annotations

import re
from typing import Protocol

from supervisor_app.gateway.llama.forms import LONGEST_FIELD, LONGEST_HEAD, MOST_PARTS, boundary_of, is_form

MAX_OUTLINE = 256 * 1024
"""Bytes. No client asks for what has a longer one."""
MAX_TOKENS = 2_000_000
"""Strings and brackets that are looked at, some two seconds beside other work."""
LONGEST_STRING = 1024
"""Bytes of a string that is kept; a longer one becomes an empty one."""
_STRUCTURE = re.compile(rb'["{}\[\]]')
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_OPENING = b"{["


class OutlineError(Exception):
    """A fault of the body, in the words that its client is told."""


TOO_MUCH = "there is too much in it to look for its `model`: put `model` first"
CUT = "it ends too soon"


class Outline(Protocol):
    def feed(self, data: bytes) -> None: ...

    def end(self) -> bytes:
        """All of it has come. Raises OutlineError."""


def outline_for(content_type: bytes) -> Outline:
    return FormOutline(content_type) if is_form(content_type) else JsonOutline()


class JsonOutline:
    """The top level: what is in its lists and objects, and long strings, are left out.

    Brackets are counted, not matched: a body in which they do not match is none to any server.
    """

    def __init__(self) -> None:
        self._kept = bytearray()
        self._depth = 0
        self._tokens = 0
        self._is_in_string = False
        self._string = bytearray()
        """Part of the string that has come."""
        self._backslash = b""
        """The last byte that came, when it escapes the next."""
        self._is_too_much = False

    def feed(self, data: bytes) -> None:
        data, self._backslash = self._backslash + data, b""
        at = 0
        while at < len(data) and not self._is_too_much:
            at = self._inside(data, at) if self._is_in_string else self._outside(data, at)

    def end(self) -> bytes:
        if self._is_too_much:
            raise OutlineError(TOO_MUCH)
        if self._is_in_string or self._depth > 0:
            raise OutlineError(CUT)
        return bytes(self._kept)

    def _outside(self, data: bytes, at: int) -> int:
        """Read up to the next bracket or the beginning of the next string."""
        found = _STRUCTURE.search(data, at)
        end = len(data) if found is None else found.start()
        if self._depth <= 1:
            self._keep(data[at:end])
        if found is None:
            return end
        self._tokens += 1
        self._is_too_much |= self._tokens > MAX_TOKENS
        mark = found[0]
        if mark == b'"':
            self._is_in_string = True
            self._string.clear()
            return end + 1
        opens = mark in _OPENING
        if self._depth + opens <= 2:
            self._keep(mark)
        self._depth += 1 if opens else -1
        return end + 1

    def _inside(self, data: bytes, at: int) -> int:
        """Read up to the end of the string."""
        string = self._string
        found = _REST_OF_STRING.match(data, at)
        end = at if found is None else found.end()
        if self._depth <= 1 and len(string) <= LONGEST_STRING:
            string += data[at : min(end, at + LONGEST_STRING + 1)]
        if data[end : end + 1] == b'"':
            if self._depth <= 1:
                self._keep(b'"%b"' % (bytes(string) if len(string) <= LONGEST_STRING else b""))
            self._is_in_string = False
            return end + 1
        self._backslash = data[end:]  # nothing, or half an escape
        return len(data)

    def _keep(self, data: bytes) -> None:
        self._kept += data
        self._is_too_much |= len(self._kept) > MAX_OUTLINE


class FormOutline:
    """Heads of parts, and the contents of those that are short enough for fields."""

    def __init__(self, content_type: bytes) -> None:
        self._delimiter = b"--" + boundary_of(content_type)
        self._kept = bytearray()
        self._rest = b""
        """Bytes of a head that is not whole, or that may be the beginning of a delimiter."""
        self._is_in_head = False
        self._content = bytearray()
        """The content of a part, as far as it may be a field's."""
        self._parts = 0
        self._is_too_much = self._delimiter == b"--"

    def feed(self, data: bytes) -> None:
        self._rest += data
        while not self._is_too_much and (self._head() if self._is_in_head else self._contents()):
            pass

    def end(self) -> bytes:
        if self._is_too_much:
            raise OutlineError(TOO_MUCH)
        if not (self._is_in_head and self._rest.startswith(b"--")):
            raise OutlineError(CUT)
        return bytes(self._kept + self._rest)

    def _head(self) -> bool:
        """False: more of it has to come."""
        end = self._rest.find(b"\r\n\r\n", 0, LONGEST_HEAD)
        if end < 0:
            self._is_too_much = len(self._rest) > LONGEST_HEAD
            return False
        self._kept += self._rest[: end + 4]
        self._rest = self._rest[end + 4 :]
        self._is_in_head = False
        self._content.clear()
        return True

    def _contents(self) -> bool:
        """Take the bytes up to the next delimiter. Bytes before the first delimiter are no part."""
        delimiter = b"\r\n" + self._delimiter if self._parts else self._delimiter
        end = self._rest.find(delimiter)
        upto = end if end >= 0 else max(0, len(self._rest) - len(delimiter) + 1)
        if len(self._content) <= LONGEST_FIELD:
            self._content += self._rest[: min(upto, LONGEST_FIELD + 1)]
        if end < 0:
            self._rest = self._rest[upto:]
            return False
        if len(self._content) <= LONGEST_FIELD:
            self._kept += self._content
        elif not self._parts:
            self._kept += b"-"  # one that begins with something else is odd
        self._kept += delimiter
        self._rest = self._rest[end + len(delimiter) :]
        self._is_in_head = True
        self._parts += 1
        self._is_too_much = self._parts > MOST_PARTS
        return True
