"""The short fields of multipart/form-data: how the model of an audio request is named. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

MOST_PARTS = 64
LONGEST_HEAD = 4096
LONGEST_FIELD = 1024
_PARAMETER = re.compile(rb';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))')

_OTHER_LINES = rb"(?:\r\n(?i:Content-(?:Type|Length)): [^\r\n]*)*"
_FILENAME = rb"; filename\*?=(?:\"[^\"\\\r\n]*\"|[\w%'.-]+)"
_PLAIN_TYPE = re.compile(rb'multipart/form-data; ?boundary=("?)[\w-]{1,70}\1')
_PLAIN_HEAD = re.compile(
    _OTHER_LINES
    + rb'\r\n(?i:Content-Disposition): form-data; name="[\w.\[\]-]*"(?:%b)*' % _FILENAME
    + _OTHER_LINES
)


class Form(NamedTuple):
    """The fields of a form. A value that is too long counts as empty; what has a filename is no field."""

    fields: dict[bytes, list[bytes]]
    is_plain: bool
    """The form was read to its end and has nothing odd, so no other reader finds other fields."""


def is_form(content_type: bytes) -> bool:
    return content_type[:20].lower().startswith(b"multipart/form-data")


def boundary_of(content_type: bytes) -> bytes:
    return _parameters(content_type).get(b"boundary", b"")


def is_whole(body: bytes, content_type: bytes) -> bool:
    """Has its last boundary come?"""
    return b"--%b--" % boundary_of(content_type) in body[-LONGEST_HEAD:]


def read_form(body: bytes, content_type: bytes) -> Form:
    """`body` may be cut off: then the fields before that are found. Never raises."""
    fields: dict[bytes, list[bytes]] = {}
    boundary = boundary_of(content_type)
    delimiter = b"--" + boundary
    is_plain = _PLAIN_TYPE.fullmatch(content_type) is not None and body.startswith(delimiter)
    at = body.find(delimiter) if boundary else -1
    for _ in range(MOST_PARTS):
        head_at = at + len(delimiter)
        head_end = body.find(b"\r\n\r\n", head_at, head_at + LONGEST_HEAD)
        start = head_end + 4
        end = body.find(b"\r\n" + delimiter, start)
        if at < 0 or head_end < 0 or end < 0:
            break
        head = body[head_at:head_end]
        is_plain = is_plain and _PLAIN_HEAD.fullmatch(head) is not None
        disposition = _disposition(head)
        if b"filename" not in disposition:
            value = body[start:end] if end - start <= LONGEST_FIELD else b""
            fields.setdefault(disposition.get(b"name", b""), []).append(value)
        at = end + 2
    ends = at >= 0 and body[at + len(delimiter) :] in (b"--", b"--\r\n")
    return Form(fields, is_plain and ends)


def _disposition(head: bytes) -> dict[bytes, bytes]:
    for line in head.split(b"\r\n"):
        if line[:20].lower() == b"content-disposition:":
            return _parameters(line)
    return {}


def _parameters(header: bytes) -> dict[bytes, bytes]:
    return {match[1].lower(): match[2] or match[3] or b"" for match in _PARAMETER.finditer(header)}
