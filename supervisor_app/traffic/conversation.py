"""The conversation of a request whose words were kept, put together to be read. Pure.

Bodies are those of llama-server's APIs: chat and text completions, `/v1/messages`, `/v1/responses`,
`/completion`. An answer is one JSON object or a stream of events, perhaps cut where no more was kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

THOUGHTS = "reasoning"
MOST_TURNS = 500


@dataclass(frozen=True, slots=True)
class Turn:
    """A part of a conversation."""

    role: str
    """`system`, `user`, `assistant`, `tool`, `reasoning` or what else the client says."""
    text: str
    note: str = ""
    """Remark, such as the name of a tool that is called."""


def turns_of(request: str | None, answer: str | None) -> list[Turn]:
    """List the turns of a conversation; empty: neither body can be read as one."""
    asked = [*_asked(_object(request or ""))]
    said = [*_said(answer or "")]
    return [turn for turn in (*asked, *said) if turn.text or turn.note][-MOST_TURNS:]


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


# --- What was asked ------------------------------------------------------------------------------------


def _asked(body: dict[str, Any]) -> Iterator[Turn]:
    for name in ("system", "instructions"):
        if name in body:
            yield Turn("system", _text(body[name]))
    for message in _dicts(body.get("messages") or body.get("input")):
        yield from _message(message)
    for name in ("prompt", "input"):
        value = body.get(name)
        if isinstance(value, str):
            yield Turn("user", value)
        elif isinstance(value, list) and all(isinstance(each, str) for each in value):
            yield from (Turn("user", each) for each in value)


def _message(message: dict[str, Any]) -> Iterator[Turn]:
    role = str(message.get("role") or message.get("type") or "user")
    if thoughts := _text(message.get("reasoning_content")):
        yield Turn(THOUGHTS, thoughts)
    content = message.get("content")
    if content is None:
        content = message.get("output")
    yield Turn(role, _text(content))
    yield from _calls(message.get("tool_calls"))
    for part in _dicts(content):
        if part.get("type") == "tool_use":
            yield Turn("assistant", _as_text(part.get("input")), f"calls {part.get('name')}")


def _calls(calls: object) -> Iterator[Turn]:
    for call in _dicts(calls):
        function = call.get("function")
        if isinstance(function, dict):
            yield Turn("assistant", _as_text(function.get("arguments")), f"calls {function.get('name')}")


def _text(content: object) -> str:
    """The words of a message, whose content is a text or a list of parts."""
    if isinstance(content, str):
        return content
    return "\n".join(text for part in _dicts(content) if (text := _part(part)))


def _part(part: dict[str, Any]) -> str:
    for name in ("text", "thinking"):
        if isinstance(part.get(name), str):
            return str(part[name])
    if part.get("type") == "tool_result":
        return _text(part.get("content"))
    kind = str(part.get("type") or "")
    return f"[{kind}]" if kind and kind != "tool_use" else ""


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


# --- What was answered ---------------------------------------------------------------------------------


def _said(answer: str) -> Iterator[Turn]:
    whole = _object(answer)
    if whole:
        yield from _whole(whole)
        return
    pieces = _Pieces()
    for line in answer.splitlines():
        if line.startswith("data:"):
            pieces.add(_object(line.removeprefix("data:").strip()))
    yield from pieces.turns()


def _whole(body: dict[str, Any]) -> Iterator[Turn]:
    """Read an answer that came in one piece."""
    if isinstance(error := body.get("error"), dict):
        yield Turn("error", _as_text(error.get("message") or error))
    for choice in _dicts(body.get("choices")):
        message = choice.get("message")
        if isinstance(message, dict):
            yield from _message({"role": "assistant", **message})
        else:
            yield Turn("assistant", _text(choice.get("text")))
    for item in _dicts(body.get("output")):
        yield from _message({"role": "assistant", **item})
    if "content" in body:
        yield from _message({"role": "assistant", "content": body["content"]})


class _Pieces:
    """Pieces of a streamed answer, put together: for each answer its thoughts, its words and its calls."""

    def __init__(self) -> None:
        self._thoughts: dict[int, list[str]] = {}
        self._words: dict[int, list[str]] = {}
        self._calls: dict[tuple[int, int], list[str]] = {}
        self._names: dict[tuple[int, int], str] = {}
        self._errors: list[str] = []

    def add(self, event: dict[str, Any]) -> None:
        if isinstance(error := event.get("error"), dict):
            self._errors.append(_as_text(error.get("message") or error))
        for choice in _dicts(event.get("choices")):
            number = choice.get("index")
            delta = choice.get("delta")
            self._grow(number if isinstance(number, int) else 0, delta if isinstance(delta, dict) else choice)
        delta = event.get("delta")
        if isinstance(delta, str):  # /v1/responses
            kind = str(event.get("type"))
            if kind.endswith("output_text.delta"):
                self._grow(0, {"text": delta})
            elif "reasoning" in kind:
                self._grow(0, {"thinking": delta})
        elif isinstance(delta, dict):  # /v1/messages
            self._grow(0, delta)
        elif isinstance(event.get("content"), str):  # /completion
            self._grow(0, {"text": event["content"]})

    def _grow(self, number: int, piece: dict[str, Any]) -> None:
        for name in ("reasoning_content", "thinking"):
            if isinstance(piece.get(name), str):
                self._thoughts.setdefault(number, []).append(piece[name])
        for name in ("content", "text"):
            if isinstance(piece.get(name), str):
                self._words.setdefault(number, []).append(piece[name])
        for call in _dicts(piece.get("tool_calls")):
            index, function = call.get("index"), call.get("function")
            place = (number, index if isinstance(index, int) else 0)
            if isinstance(function, dict):
                self._names.setdefault(place, str(function.get("name") or ""))
                self._calls.setdefault(place, []).append(str(function.get("arguments") or ""))

    def turns(self) -> Iterator[Turn]:
        for number in sorted({*self._thoughts, *self._words}):
            yield Turn(THOUGHTS, "".join(self._thoughts.get(number, ())))
            yield Turn("assistant", "".join(self._words.get(number, ())))
        for place, pieces in sorted(self._calls.items()):
            yield Turn("assistant", "".join(pieces), f"calls {self._names[place]}")
        for error in self._errors:
            yield Turn("error", error)
