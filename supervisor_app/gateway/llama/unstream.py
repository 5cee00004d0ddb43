"""A request without a stream, asked for as one, and its answer put together again. Pure.

While llama-server streams to others, or is asked for its slots, it does not notice that the client of an
unstreamed request has left, and works on to the end. Of a stream it notices at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from supervisor_app.gateway.llama.answers import Chat, Completion, ErrorEventError, GrowingAnswer, Native
from supervisor_app.gateway.llama.hints import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable

_YES = Raw(b"true")
_VERBOSE = b'"__verbose":'
"""Within a text its second quote would be escaped."""
_NOTHING = frozenset((b"null", b"false", b"0", b"[]", b'""'))

_object = msgspec.json.Decoder(dict[str, Raw])
_list = msgspec.json.Decoder(list[Raw])


class BrokenStreamError(Exception):
    """The stream is not the one that was asked for, or broke off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """The answer without a stream of a server that gave up in the middle."""

    status: int
    body: bytes


class _Role(msgspec.Struct):
    role: str = ""


class _Code(msgspec.Struct):
    code: int


def _ask_for_an_answer(messages: Raw) -> bool:
    """Tell whether a whole answer is asked for: a stream lacks the beginning of a continued one."""
    every = _list.decode(messages)
    return not every or msgspec.json.decode(every[-1], type=_Role).role != "assistant"


def _is_one(prompt: Raw) -> bool:
    """Tell whether the prompt is a single one: answers to several would have to become a list."""
    if bytes(memoryview(prompt)[:1]) != b"[":
        return True
    parts = _list.decode(prompt)
    return len(parts) <= 1 or all(bytes(part).isdigit() for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Rules by which the answers of an operation are put together."""

    answer: Callable[[], GrowingAnswer]
    asks: dict[str, Raw]
    """Fields that make the request ask for a stream from which nothing is missing,"""
    unfaithful: frozenset[str]
    """unless it has one of these,"""
    subject: str
    suits: Callable[[Raw], bool]
    """or this does not hold of its subject."""
    says_done: bool
    """The stream ends with `[DONE]`."""


# Text that may begin a stop word is kept back, and lost at the limit of tokens. A line that is not indented
# far enough has been streamed when it is found to be none of the answer. Verbose answers tell of the stream.
_ALWAYS = frozenset(("stream", "stop", "n_indent", "verbose"))
CHAT = Recipe(
    answer=Chat,
    asks={"stream": _YES, "stream_options": Raw(b'{"include_usage":true}')},
    # Tokens without text, such as the last, have no event that could carry theirs.
    unfaithful=_ALWAYS | {"logprobs", "n_probs"},
    subject="messages",
    suits=_ask_for_an_answer,
    says_done=True,
)
TEXT = Recipe(
    answer=Completion,
    asks={"stream": _YES, "timings_per_token": _YES},
    unfaithful=_ALWAYS,
    subject="prompt",
    suits=lambda _: True,
    says_done=True,
)
NATIVE = Recipe(
    answer=Native,
    asks={"stream": _YES},
    unfaithful=_ALWAYS | {"return_tokens", "response_fields", "n", "n_cmpl"},
    subject="prompt",
    suits=_is_one,
    says_done=False,
)


def restream(recipe: Recipe, body: bytes) -> bytes | None:
    """The body that asks for the same as a stream, from which an `Assembler` makes the same answer.

    None when it must go as it is: it asks for a stream already, cannot be read, or the stream would not carry
    all that belongs to the answer.
    """
    try:
        fields = _object.decode(body)
        if any(bytes(fields[name]) not in _NOTHING for name in recipe.unfaithful & fields.keys()):
            return None
        if recipe.subject not in fields or not recipe.suits(fields[recipe.subject]):
            return None
    except UNREADABLE:
        return None
    return msgspec.json.encode({**fields, **recipe.asks})


class Assembler:
    """Takes the stream that answers a restreamed request, in any pieces."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._answer = recipe.answer()
        self._line: list[bytes] = []
        self._done = False
        self.is_verbose = False
        """Set when the server tells more of the request than it was: it would tell of the stream."""
        self.error: ErrorAnswer | None = None
        """Set when the server gave up; there is no result then."""

    @property
    def whole(self) -> bool:
        """The end of the stream has come."""
        return self._answer.ended and (self._done or not self._recipe.says_done)

    @property
    def certain(self) -> bool:
        """The result is, word for word, what the server would have answered. Only when `whole`.

        It is not for a chat of which no text has come although there was some: half a character, white space,
        the beginning of a tool call that was cut. A client that wants the text must ask again without a
        stream.
        """
        return self._answer.certain

    def feed(self, piece: bytes) -> None:
        """Take the next bytes. Raises BrokenStreamError."""
        if b"\n" not in piece:
            self._line.append(piece)
            return
        *lines, rest = b"".join((*self._line, piece)).split(b"\n")
        self._line = [rest]
        for line in lines:
            if line.startswith(b"data:"):
                self._take(line[5:].strip())

    def result(self) -> bytes:
        """The answer as JSON. Raises BrokenStreamError."""
        if not self.whole:
            raise BrokenStreamError("it ended in the middle")
        try:
            return msgspec.json.encode(self._answer.body())
        except UNREADABLE as error:
            raise BrokenStreamError(str(error)) from error

    def _take(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._done = True
            return
        if data == b"null":  # so the stream for several prompts begins
            return
        if _VERBOSE in data:
            self.is_verbose = True
            raise BrokenStreamError("its server is verbose")
        try:
            self._answer.take(data)
        except ErrorEventError as gave_up:
            self.error = _error_of(gave_up.error)
        except UNREADABLE as error:
            raise BrokenStreamError(str(error)) from error


def _error_of(error: Raw) -> ErrorAnswer:
    try:
        status = msgspec.json.decode(error, type=_Code).code
    except UNREADABLE:
        status = 500
    return ErrorAnswer(
        status=status if 400 <= status <= 599 else 500, body=msgspec.json.encode({"error": error})
    )
