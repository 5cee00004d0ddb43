"""The conversation of a request whose words were kept, put together to be read. Pure.

Bodies are those of llama-server's APIs: chat and text completions, `/v1/messages`, `/v1/responses`,
`/completion`. An answer is one JSON object or a stream of events, perhaps cut where no more was kept.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THOUGHTS = "reasoning"
MOST_TURNS = 500
_MESSAGES = re.compile(r'"(?:messages|input)"\s*:\s*\[\s*')
_BETWEEN = re.compile(r"[\s,]+")
_REST = "cut here"
_decode = json.JSONDecoder().raw_decode


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
    asked = [*_asked(_object(request or "") or _cut(request or ""))]
    said = [*_said(answer or "")]
    return [turn for turn in (*asked, *said) if turn.text or turn.note][-MOST_TURNS:]


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _cut(text: str) -> dict[str, Any]:
    """Read what is whole of the messages of a body that was cut."""
    found = _MESSAGES.search(text)
    messages: list[Any] = []
    at = found.end() if found else len(text)
    with suppress(ValueError, RecursionError):
        while at < len(text):
            message, at = _decode(text, at)
            messages.append(message)
            between = _BETWEEN.match(text, at)
            at = between.end() if between else at
    return {"messages": [*messages, {"role": _REST, "content": "…"}]} if messages else {}


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
    kind = str(message.get("type"))
    role = str(message.get("role") or message.get("type") or "user")
    if kind in _ITEMS_OF_RESPONSES:
        yield _ITEMS_OF_RESPONSES[kind](message)
        return
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


def _call_item(item: dict[str, Any]) -> Turn:
    return Turn("assistant", _as_text(item.get("arguments")), f"calls {item.get('name')}")


_ITEMS_OF_RESPONSES: dict[str, Callable[[dict[str, Any]], Turn]] = {
    "function_call": _call_item,
    "function_call_output": lambda item: Turn("tool", _text(item.get("output"))),
    "reasoning": lambda item: Turn(THOUGHTS, _text(item.get("content")) or _text(item.get("summary"))),
}
"""Items of `/v1/responses` that are no messages."""


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
            delta = choice.get("delta")
            self._grow(_number(choice.get("index")), delta if isinstance(delta, dict) else choice)
        delta = event.get("delta")
        if isinstance(delta, str):  # /v1/responses
            kind = str(event.get("type"))
            if kind.endswith("output_text.delta"):
                self._grow(0, {"text": delta})
            elif kind.endswith("function_call_arguments.delta"):
                self._grow_call(_number(event.get("output_index")), arguments=delta)
            elif "reasoning" in kind:
                self._grow(0, {"thinking": delta})
        elif isinstance(delta, dict):  # /v1/messages
            self._grow(0, delta)
            if isinstance(delta.get("partial_json"), str):
                self._grow_call(_number(event.get("index")), arguments=delta["partial_json"])
        elif isinstance(event.get("content"), str):  # /completion
            self._grow(0, {"text": event["content"]})
        for name, place in (("content_block", "index"), ("item", "output_index")):
            begun = event.get(name)
            if isinstance(begun, dict) and begun.get("type") in ("tool_use", "function_call"):
                self._grow_call(_number(event.get(place)), str(begun.get("name") or ""))

    def _grow(self, number: int, piece: dict[str, Any]) -> None:
        for name in ("reasoning_content", "thinking"):
            if isinstance(piece.get(name), str):
                self._thoughts.setdefault(number, []).append(piece[name])
        for name in ("content", "text"):
            if isinstance(piece.get(name), str):
                self._words.setdefault(number, []).append(piece[name])
        for call in _dicts(piece.get("tool_calls")):
            function = call.get("function")
            if isinstance(function, dict):
                name, arguments = str(function.get("name") or ""), str(function.get("arguments") or "")
                self._grow_call(_number(call.get("index")), name, arguments, answer=number)

    def _grow_call(self, index: int, name: str = "", arguments: str = "", *, answer: int = 0) -> None:
        place = (answer, index)
        self._names[place] = self._names.get(place) or name
        self._calls.setdefault(place, []).append(arguments)

    def turns(self) -> Iterator[Turn]:
        for number in sorted({*self._thoughts, *self._words}):
            yield Turn(THOUGHTS, "".join(self._thoughts.get(number, ())))
            yield Turn("assistant", "".join(self._words.get(number, ())))
        for place, pieces in sorted(self._calls.items()):
            yield Turn("assistant", "".join(pieces), f"calls {self._names[place]}")
        for error in self._errors:
            yield Turn("error", error)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
