"""Hints of a request: where it goes and what it may cost. Pure; the body is never decoded as a whole."""

from __future__ import annotations

import re
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qs

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from supervisor_app.gateway.llama.forms import is_form, read_form

if TYPE_CHECKING:
    from collections.abc import Iterator

_USUAL_TYPE = b"application/json"
_BOM = b"\xef\xbb\xbf"
_LONGEST_VALUE = 1024
"""Bytes of a value that is worth a look: names and numbers are short."""
_MOST_TOKENS = 2**31 - 1
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of msgspec for what is no JSON, other JSON than wanted, or too deep."""


class Hints(msgspec.Struct, frozen=True, gc=False):
    """Hints that a request gives; None where it says nothing, or nothing that can be read.

    The server understands a little more JSON than we do, such as a thousand levels. So a `model` of None
    is not proof that none is named: it must not pass where only certain models are allowed, and neither must
    one that is in doubt.
    """

    model: str | None = None
    stream: bool = False
    max_tokens: int | None = None
    session: str | None = None
    """The client's own name of its conversation, from `prompt_cache_key` or `session_id`."""
    doubt: str = ""
    """Why the server may go by another `model` than this one; empty: it does not."""
    answers: int = 1
    """Answers to each prompt."""
    prompts: int = 1
    """Number of prompts; the messages of a chat are one."""


TOO_LONG = "the body is too long to be sure of its model"
NOT_IN_BODY = "a server of several models wants `model` in the body, which names none that can be read"
AMBIGUOUS = "its model can be read in more than one way"
NO_HINTS = Hints()


_Text = Annotated[str, msgspec.Meta(max_length=_LONGEST_VALUE // 4)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST_TOKENS)]


class _TokenNumbers(msgspec.Struct, array_like=True):
    """All that is in them is skipped."""


class _Body(msgspec.Struct):
    """Raw is skipped and never built, and of a wrong type without harm."""

    model: Raw = Raw()
    stream: Raw = Raw()
    n_predict: Raw = Raw()
    max_completion_tokens: Raw = Raw()
    max_tokens: Raw = Raw()
    max_output_tokens: Raw = Raw()
    n_cmpl: Raw = Raw()
    n: Raw = Raw()
    prompt: Raw = Raw()
    prompt_cache_key: Raw = Raw()
    session_id: Raw = Raw()


class _UsualBody(msgspec.Struct):
    """Read a body whose every field has the type that it should have: three times as fast."""

    model: _Text | None = None
    stream: bool | None = None
    n_predict: _Count | None = None
    max_completion_tokens: _Count | None = None
    max_tokens: _Count | None = None
    max_output_tokens: _Count | None = None
    n_cmpl: _Count | None = None
    n: _Count | None = None
    prompt: Raw = Raw()
    prompt_cache_key: _Text | None = None
    session_id: _Text | None = None


_body = msgspec.json.Decoder(_Body)
_usual_body = msgspec.json.Decoder(_UsualBody)
_prompts = msgspec.json.Decoder(list[str | _TokenNumbers | dict[str, Raw]])


def hints_of(body: bytes, content_type: bytes = b"") -> Hints:
    """Hints of a whole body. Never raises: to complain of a bad one is up to the server.

    As the server does it: the type counts only when it is a form.
    """
    if content_type != _USUAL_TYPE and is_form(content_type):
        return _of_form(body, content_type)
    return _of_json(body)


def hints_of_beginning(body: bytes, content_type: bytes = b"") -> Hints:
    """Read the beginning of a body. Even a field that is found there may come again later on."""
    found = _of_form(body, content_type) if is_form(content_type) else _of_cut_json(body)
    return replace(found, doubt=TOO_LONG)


def hints_of_query(query: str) -> Hints:
    """Hints of a request whose method says that its body does not count."""
    # Servers drop a repeated pair and what follows a "#", and some decode %u006d: what is told last is not
    # the same for all.
    named = parse_qs(query, keep_blank_values=True).get("model", [""])
    is_plain = len(named) == 1 and "#" not in query and "%u" not in query.lower()
    return Hints(model=named[-1] or None, doubt="" if is_plain else AMBIGUOUS)


def _of_json(body: bytes) -> Hints:
    try:
        usual = _usual_body.decode(body)
    except UNREADABLE:
        return _of_odd_json(body)
    limit = usual.max_tokens
    if usual.n_predict is not None:  # the first of them counts
        limit = usual.n_predict
    elif usual.max_completion_tokens is not None:
        limit = usual.max_completion_tokens
    elif limit is None:
        limit = usual.max_output_tokens
    session = usual.prompt_cache_key or usual.session_id
    if usual.n is None and usual.n_cmpl is None and not usual.prompt:
        return Hints(usual.model, usual.stream is True, limit, session)
    answers = usual.n if usual.n_cmpl is None else usual.n_cmpl
    prompts = _number_of(usual.prompt)
    return Hints(usual.model, usual.stream is True, limit, session, "", answers or 1, prompts)


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
            answers=_limit(found.n_cmpl, found.n) or 1,
            prompts=_number_of(found.prompt),
        )
    except UNREADABLE:
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


def _number_of(prompt: Raw) -> int:
    """Count prompts as the server does: a list with a bare number in it is one, of tokens and of texts."""
    if bytes(memoryview(prompt)[:1]) != b"[":
        return 1
    try:
        return len(_prompts.decode(prompt)) or 1
    except UNREADABLE:
        return 1


def _of_form(body: bytes, content_type: bytes) -> Hints:
    form = read_form(body, content_type)
    # The server does not take a name that is said twice.
    models = form.fields.get(b"model", [])
    return Hints(
        model=models[0].decode(errors="replace") or None if len(models) == 1 else None,
        stream=form.fields.get(b"stream") == [b"true"],
        doubt="" if form.is_plain else AMBIGUOUS,
    )


# A body of which only the beginning is known

_TOKEN = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")(\s*:\s*)?|["{}\[\]]', re.DOTALL)
"""A string, whole, and whether it is a key; a quote that begins one which is cut; a bracket."""


_MOST_STRINGS = 200_000
"""Most strings and brackets that are looked at: some 50 ms."""


def _of_cut_json(beginning: bytes) -> Hints:
    """The top-level `model` and `stream` of the object that begins so; each counts where it stands first."""
    values: dict[str, int] = {}
    depth = 0
    for token in islice(_TOKEN.finditer(beginning), _MOST_STRINGS):
        text = token[1]
        if text is None:
            if token[0] == b'"':
                break
            depth += 1 if token[0] in b"{[" else -1
        elif token[2] is not None and depth == 1 and (key := _string(text)) in ("model", "stream"):
            values.setdefault(key, token.end())
            if len(values) == 2:
                break
    model = _TOKEN.match(beginning, values.get("model", len(beginning)))
    return Hints(
        model=_string(model[1]) if model is not None and model[1] is not None else None,
        stream=beginning.startswith(b"true", values.get("stream", len(beginning))),
    )


def _string(text: bytes) -> str | None:
    try:
        return msgspec.json.decode(text, type=str)
    except UNREADABLE:
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
    except UNREADABLE:
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
