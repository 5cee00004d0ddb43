"""Words of a request whose key keeps them, as its page shows them: without secrets. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from supervisor_app.logs.hidden import Hider
from supervisor_app.traffic.conversation import Turn, turns_of

_hider = Hider()


@dataclass(frozen=True, slots=True)
class Message:
    """Head and body of a request, or of its answer."""

    head: str
    body: str


@dataclass(frozen=True, slots=True)
class Said:
    """Both messages, and the conversation that they are."""

    turns: list[Turn]
    request: Message
    answer: Message


def said_of(request: Message, answer: Message) -> Said:
    """Put the conversation together first: a secret may lie across pieces of a stream."""
    turns = [replace(turn, text=_hider.hide(turn.text)) for turn in turns_of(request.body, answer.body)]
    return Said(turns, _shown(request), _shown(answer))


def _shown(message: Message) -> Message:
    return Message(message.head, _hider.hide(message.body))
