"""What a request's body tells about where it goes and what it may cost. Pure; the body is never built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Annotated, NamedTuple
from urllib.parse import parse_qs

import msgspec
from msgspec import Raw

_BOM = b"\xef\xbb\xbf"
_LONGEST_VALUE = 1024
"""Bytes of a value that is worth a look: names and numbers are short."""
_MOST_TOKENS = 2**31 - 1
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Hints(NamedTuple):
    """What a request says of itself; None where it says nothing, or nothing that can be read.

    Of JSON the server understands a little more than we do, such as a thousand levels. So a `model` of None
    is not proof that none is named: it must not pass where only certain models are allowed.
    """

    model: str | None = None
    stream: bool = False
    max_tokens: int | None = None
    session: str | None = None
    """What the client itself calls its conversation, by `prompt_cache_key` or `session_id`."""


NO_HINTS = Hints()


_Text = Annotated[str, msgspec.Meta(max_length=_LONGEST_VALUE // 4)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST_TOKENS)]


class _Body(msgspec.Struct):
    """Raw is skipped and never built, and of a wrong type without harm."""

    model: Raw = Raw()
    stream: Raw = Raw()
    n_predict: Raw = Raw()
    max_completion_tokens: Raw = Raw()
    max_tokens: Raw = Raw()
    max_output_tokens: Raw = Raw()
    prompt_cache_key: Raw = Raw()
    session_id: Raw = Raw()


class _UsualBody(msgspec.Struct):
    """The same where every field is of the type that it should be: three times as fast."""

    model: _Text | None = None
    stream: bool | None = None
    n_predict: _Count | None = None
    max_completion_tokens: _Count | None = None
    max_tokens: _Count | None = None
    max_output_tokens: _Count | None = None
    prompt_cache_key: _Text | None = None
    session_id: _Text | None = None


_body = msgspec.json.Decoder(_Body)
_usual_body = msgspec.json.Decoder(_UsualBody)


def hints_of(body: bytes, content_type: bytes = b"", query: bytes = b"") -> Hints:
    """Hints of a whole request. Never raises: to complain of a bad body is up to the server.

    As the server does it: the type counts only when it is a form; the query only when there is no body.
    """
    if body:
        return _of_form(body, content_type) if _is_form(content_type) else _of_json(body)
    if b"model=" in query and (named := parse_qs(query.decode(errors="replace")).get("model")):
        return Hints(model=named[-1])
    return NO_HINTS


def _of_json(body: bytes) -> Hints:
    try:
        usual = _usual_body.decode(body)
    except _UNREADABLE:
        return _of_odd_json(body)
    limit = usual.max_tokens
    if usual.n_predict is not None:  # the first of them counts
        limit = usual.n_predict
    elif usual.max_completion_tokens is not None:
        limit = usual.max_completion_tokens
    elif limit is None:
        limit = usual.max_output_tokens
    session = usual.prompt_cache_key or usual.session_id
    return Hints(usual.model, usual.stream is True, limit, session)


def _of_odd_json(body: bytes) -> Hints:
    try:
        found = _body.decode(body.removeprefix(_BOM))
        return Hints(
            model=_text(found.model),
            stream=_value(found.stream) is True,
            # The first that is a number counts, for the server too.
            max_tokens=_limit(
                found.n_predict, found.max_completion_tokens, found.max_tokens, found.max_output_tokens
            ),
            session=_text(found.prompt_cache_key) or _text(found.session_id),
        )
    except _UNREADABLE:
        return NO_HINTS


def _value(raw: Raw) -> object:
    return msgspec.json.decode(raw) if 0 < len(raw) <= _LONGEST_VALUE else None


def _text(raw: Raw) -> str | None:
    value = _value(raw)
    return value if isinstance(value, str) else None


def _limit(*fields: Raw) -> int | None:
    for raw in fields:
        value = _value(raw)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return min(int(value), _MOST_TOKENS) if value >= 0 else None  # negative: all that fits
    return None


# Forms

_MOST_PARTS = 64
_LONGEST_PART_HEAD = 4096
_PARAMETER = re.compile(rb';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))')


def _is_form(content_type: bytes) -> bool:
    return content_type[:20].lower().startswith(b"multipart/form-data")


def _of_form(body: bytes, content_type: bytes) -> Hints:
    fields: dict[bytes, list[bytes]] = {}
    for name, value in _parts(body, _parameters(content_type).get(b"boundary", b"")):
        fields.setdefault(name, []).append(value)
    # What is said twice, the server does not take for a name.
    models = fields.get(b"model", [])
    return Hints(
        model=models[0].decode(errors="replace") if len(models) == 1 else None,
        stream=fields.get(b"stream") == [b"true"],
    )


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and value of each short field of multipart/form-data; what is longer, a file, is passed over."""
    delimiter = b"--" + boundary
    at = body.find(delimiter) if boundary else -1
    for _ in range(_MOST_PARTS):
        head = at + len(delimiter)
        end_of_head = body.find(b"\r\n\r\n", head, head + _LONGEST_PART_HEAD)
        if at < 0 or end_of_head < 0:
            return
        start = end_of_head + 4
        end = body.find(b"\r\n" + delimiter, start)
        if 0 <= end - start <= _LONGEST_VALUE:
            yield _name_of(body[head:end_of_head]), body[start:end]
        at = end + 2 if end >= 0 else -1


def _name_of(head: bytes) -> bytes:
    for line in head.split(b"\r\n"):
        if line[:20].lower() == b"content-disposition:":
            return _parameters(line).get(b"name", b"")
    return b""


def _parameters(header: bytes) -> dict[bytes, bytes]:
    return {match[1].lower(): match[2] or match[3] or b"" for match in _PARAMETER.finditer(header)}


# A body of which only the beginning is known

_TOKEN = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")(\s*:\s*)?|["{}\[\]]', re.DOTALL)
"""A string, whole, and whether it is a key; a quote that begins one which is cut; a bracket."""


def model_in_prefix(prefix: bytes) -> str | None:
    """The top-level `model` of the JSON object that begins with `prefix`; None when it is not in there."""
    depth = 0
    value_at = -1
    for token in _TOKEN.finditer(prefix):
        text, is_key = token[1], token[2] is not None
        if value_at >= 0:
            return _string(text) if text is not None and token.start() == value_at else None
        if text is not None:
            if is_key and depth == 1 and _string(text) == "model":
                value_at = token.end()
        elif token[0] == b'"':
            return None
        else:
            depth += 1 if token[0] in b"{[" else -1
    return None


def _string(text: bytes) -> str | None:
    try:
        return msgspec.json.decode(text, type=str)
    except _UNREADABLE:
        return None


# Conversations

_BEGINNING = 1024
"""Characters of a text that stand for it. A prompt that is shorter is not worth a warm cache."""
_MOST_LEADING = 8
"""Messages looked at for the first of the user."""


class _Block(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    role: str = ""
    content: str | list[_Block] | None = None


class _Conversation(msgspec.Struct):
    system: Raw = Raw()
    instructions: Raw = Raw()
    messages: Raw = Raw()
    input: Raw = Raw()
    prompt: Raw = Raw()


_conversation = msgspec.json.Decoder(_Conversation)
_message = msgspec.json.Decoder(_Message)
_content = msgspec.json.Decoder(str | list[_Block] | None)
_items = msgspec.json.Decoder(list[Raw])


def prefix_digest(body: bytes) -> bytes | None:
    """8 bytes that are the same for all requests of one conversation; None when this is none.

    They stand for what it begins with: its system prompt and all up to the first message of the user, each by
    the first 1024 characters of its text alone, because clients move marks such as `cache_control` about.
    """
    try:
        found = _conversation.decode(body.removeprefix(_BOM))
        begin = found.messages or found.input
        if not (begin or found.prompt):
            return None
        digest = blake2b(digest_size=8)
        for text in (*map(_text_of, (found.system, found.instructions, found.prompt)), *_leading(begin)):
            digest.update(text.encode() + b"\0")
        return digest.digest()
    except _UNREADABLE:
        return None


def _leading(messages: Raw) -> Iterator[str]:
    if not messages or bytes(memoryview(messages)[:1]) != b"[":
        yield _text_of(messages)
        return
    for raw in _items.decode(messages)[:_MOST_LEADING]:
        try:
            message = _message.decode(raw)
        except msgspec.ValidationError:
            yield _text_of(raw)
            continue
        yield f"{message.role}:{_words(message.content)}"
        if message.role == "user":
            return


def _text_of(raw: Raw) -> str:
    try:
        return _words(_content.decode(raw)) if raw else ""
    except msgspec.ValidationError:
        return bytes(memoryview(raw)[:_BEGINNING]).decode("latin-1")


def _words(content: str | list[_Block] | None) -> str:
    if isinstance(content, list):
        content = "".join(block.text for block in content)
    return (content or "")[:_BEGINNING]
