"""The events of a stream, put together to the answer that the server gives without one. Pure.

Made after what llama-server says; fields beside the text that are not known here are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Raw

if TYPE_CHECKING:
    from collections.abc import Mapping

_CUT = "\ufffd"
"""Character that the server writes for one of which it has generated the first bytes only."""

_object = msgspec.json.Decoder(dict[str, Raw])


class ErrorEventError(Exception):
    """The event says that the server gave up; `error` is how."""

    def __init__(self, error: Raw) -> None:
        super().__init__(bytes(error))
        self.error = error


class GrowingAnswer(Protocol):
    """An answer that grows with each event. Raises msgspec.DecodeError for an event of another kind."""

    @property
    def ended(self) -> bool:
        """All that has begun has come to its end."""

    def take(self, event: bytes) -> None:
        """Raises ErrorEventError."""

    @property
    def certain(self) -> bool:
        """Tell whether nothing is missing from the answer. Only when it has ended."""

    def body(self) -> Mapping[str, Any]:
        """Return the body of the answer. Only when it has ended."""


class _Event(msgspec.Struct):
    error: Raw = Raw()

    def __post_init__(self) -> None:
        if self.error:
            raise ErrorEventError(self.error)


# Chat


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolPiece(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function = msgspec.field(default_factory=_Function)


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolPiece] | None = None


class _ChatPiece(msgspec.Struct):
    index: int = 0
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int | None = None


class _ChatEvent(_Event):
    choices: list[_ChatPiece] = []
    usage: _Usage | None = None


_chat_event = msgspec.json.Decoder(_ChatEvent)


@dataclass(slots=True)
class _ToolCall:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def take(self, piece: _ToolPiece) -> None:
        self.id = piece.id or self.id
        self.name = piece.function.name or self.name
        self.arguments.append(piece.function.arguments or "")

    def value(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": "".join(self.arguments)}
        return {"type": "function", "function": function, "id": self.id}


@dataclass(slots=True)
class _Message:
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: dict[int, _ToolCall] = field(default_factory=dict)
    finish_reason: str | None = None
    tokens: int | None = None
    last: bytes = b""
    """The latest event; in the end the one with the usage."""

    def take(self, delta: _Delta) -> None:
        if delta.content:
            self.content.append(delta.content)
        if delta.reasoning_content:
            self.reasoning.append(delta.reasoning_content)
        for piece in delta.tool_calls or ():
            self.tool_calls.setdefault(piece.index, _ToolCall()).take(piece)

    @property
    def certain(self) -> bool:
        """Tell whether nothing is missing. If no text has come, there was none: the only token was the end.

        For the server falls back on the raw text, unparsed, when nothing else is left of it.
        """
        if self.content or self.reasoning or self.tool_calls:
            return True
        return self.finish_reason != "length" and self.tokens == 1

    def value(self, index: int) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.content)}
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.tool_calls:
            message["tool_calls"] = [call.value() for _, call in sorted(self.tool_calls.items())]
        return {"finish_reason": self.finish_reason, "index": index, "message": message}


class Chat:
    """`/v1/chat/completions`, asked for with `include_usage`."""

    def __init__(self) -> None:
        self._messages: dict[int, _Message] = {}
        self._latest = _Message()

    @property
    def ended(self) -> bool:
        return bool(self._messages) and all(message.finish_reason for message in self._messages.values())

    def take(self, event: bytes) -> None:
        decoded = _chat_event.decode(event)
        for piece in decoded.choices:
            self._latest = self._messages.setdefault(piece.index, _Message())
            self._latest.finish_reason = piece.finish_reason
            self._latest.take(piece.delta)
        # The usage comes right after an end, and does not say of which choice.
        self._latest.last = event
        self._latest.tokens = decoded.usage.completion_tokens if decoded.usage else None

    @property
    def certain(self) -> bool:
        return all(message.certain for message in self._messages.values())

    def body(self) -> Mapping[str, Any]:
        messages = sorted(self._messages.items())
        choices = [message.value(index) for index, message in messages]
        return {**_object.decode(messages[0][1].last), "choices": choices, "object": "chat.completion"}


# Text


@dataclass(slots=True)
class _Text:
    pieces: list[str] = field(default_factory=list)
    probabilities: list[Raw] = field(default_factory=list)
    predicted: int | None = 0
    """Tokens up to the last piece; None if it did not say."""
    finish_reason: str | None = None
    last: bytes = b""
    """The event of its end."""

    def take(self, piece: str, probabilities: list[Raw], predicted: int | None) -> None:
        self.pieces.append(piece)
        self.probabilities += probabilities
        self.predicted = predicted

    def end(self, event: bytes, predicted: int | None) -> None:
        if predicted is not None and self.predicted is not None and predicted > self.predicted:
            self.pieces.append(_CUT)  # tokens without a piece: the beginning of a character
        self.last = event

    def value(self) -> str:
        return "".join(self.pieces)


class _Logprobs(msgspec.Struct):
    content: list[Raw] = []


class _TextPiece(msgspec.Struct):
    text: str = ""
    index: int = 0
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Timings(msgspec.Struct):
    predicted_n: int | None = None


class _TextEvent(_Event):
    timings: _Timings = msgspec.field(default_factory=_Timings)
    choices: list[_TextPiece] = []


_text_event = msgspec.json.Decoder(_TextEvent)


class Completion:
    """`/v1/completions`, asked for with `timings_per_token`."""

    certain = True

    def __init__(self) -> None:
        self._texts: dict[int, _Text] = {}

    @property
    def ended(self) -> bool:
        return bool(self._texts) and all(text.last for text in self._texts.values())

    def take(self, event: bytes) -> None:
        decoded = _text_event.decode(event)
        predicted = decoded.timings.predicted_n
        for piece in decoded.choices:
            text = self._texts.setdefault(piece.index, _Text())
            if piece.finish_reason is None:
                text.take(piece.text, piece.logprobs.content if piece.logprobs else [], predicted)
            else:
                text.finish_reason = piece.finish_reason
                text.end(event, predicted)

    def body(self) -> Mapping[str, Any]:
        texts = sorted(self._texts.items())
        choices = [
            {
                "text": text.value(),
                "index": index,
                "logprobs": {"content": text.probabilities} if text.probabilities else None,
                "finish_reason": text.finish_reason,
            }
            for index, text in texts
        ]
        return {**_object.decode(texts[0][1].last), "choices": choices}


_OF_STREAMS = frozenset(("stream", "reasoning_in_content"))
"""Settings that are on only where there is a stream."""


class _NativeEvent(_Event):
    content: str = ""
    stop: bool = False
    tokens_predicted: int | None = None
    completion_probabilities: list[Raw] = []


_native_event = msgspec.json.Decoder(_NativeEvent)


class Native:
    """`/completion`, one prompt."""

    certain = True

    def __init__(self) -> None:
        self._text = _Text()

    @property
    def ended(self) -> bool:
        return bool(self._text.last)

    def take(self, event: bytes) -> None:
        piece = _native_event.decode(event)
        if piece.stop:
            self._text.end(event, piece.tokens_predicted)
        else:
            self._text.take(piece.content, piece.completion_probabilities, piece.tokens_predicted)

    def body(self) -> Mapping[str, Any]:
        answer: dict[str, Any] = {**_object.decode(self._text.last), "content": self._text.value()}
        if "generation_settings" in answer:
            settings = _object.decode(answer["generation_settings"])
            answer["generation_settings"] = settings | dict.fromkeys(_OF_STREAMS & settings.keys(), False)
        if self._text.probabilities:
            answer["completion_probabilities"] = self._text.probabilities
        return answer
