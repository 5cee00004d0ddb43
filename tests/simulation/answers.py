"""What a server does with a request, by chance: mostly it answers as llama-server does, now and then it does not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.chance import Chance


class Deed(Enum):
    CLOSE = auto()
    RESET = auto()
    NEXT = auto()
    """Takes the next request."""


Plan = list[tuple[float, bytes | Deed]]
"""Each step comes so many seconds after the one before it."""
JSON = "Content-Type: application/json; charset=utf-8"
NEXT: Plan = [(1e-6, Deed.NEXT)]
CLOSE: Plan = [(1e-5, Deed.CLOSE)]
ENDS = (Deed.CLOSE, Deed.RESET)
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
WITHOUT_BODY = (204, 304)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request, as far as its server looks at it."""

    ident: str
    """Of its client and itself: `3-7`; empty when it does not say."""
    to_head: bool
    wants_stream: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """A sized one that could be given."""

    chance: Chance
    status: int
    content: bytes
    has_body: bool
    whole: bytes
    """Head and body."""
    end: Plan

    def soon(self) -> float:
        return _soon(self.chance)


def plan_of(chance: Chance, question: Question, calm: float) -> Plan:
    """`calm`: how probable it is that nothing out of the ordinary happens. No end of it: the server hangs."""
    if question.wants_stream and not question.to_head and chance.hits(0.85):
        return _stream(chance, question.ident)
    content = _content(chance, question.ident)
    if chance.hits(calm):
        return _calm(chance, b"" if question.to_head else content, len(content))
    status = chance.choices([200, 400, 500, 503, 204, 304, 201], [20, 2, 1, 1, 0.5, 0.5, 0.5])[0]
    if status == 503 and chance.hits(0.7):
        content = b'{"error":{"message":"Loading model","code":503}}'
    if status == 500 and chance.hits(0.5):
        content = b"proxy error: gone"
    has_body = not question.to_head and status not in WITHOUT_BODY
    lines = _lines(chance, len(content))
    whole = _head(status, *lines) + (content if has_body else b"")
    is_sized = any(line.lower().startswith("content-length") for line in lines)
    closes = not is_sized or "Connection: close" in lines or (status != 200 and chance.hits(0.3))
    end = CLOSE if closes else NEXT
    answer = _Answer(chance=chance, status=status, content=content, has_body=has_body, whole=whole, end=end)
    way = chance.one_of(WAYS) if is_sized else _at_once
    return [] if way is None else way(answer)


def _calm(chance: Chance, body: bytes, length: int) -> Plan:
    """As llama-server does it: mostly soon, head and body in one piece or in two."""
    head, at = (
        _head(200, JSON, f"Content-Length: {length}"),
        _soon(chance) * (0.05 if chance.hits(0.7) else 1),
    )
    if body and chance.hits(0.3):
        return [(at, head), (1e-5, body), *NEXT]
    return [(at, head + body), *NEXT]


def _soon(chance: Chance) -> float:
    return chance.about(0.00002, 0.0004, 0.003, 0.03, 0.4)


def _head(status: int, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Whatever", "Server: llama.cpp", *lines, "", ""]).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _content(chance: Chance, ident: str) -> bytes:
    """As long as it may be, with usage or without."""
    size = chance.choice([0, 5, 100, 900, 2000, 40_000, 100_000, 250_000])
    content: dict[str, object] = {"for": f"id-{ident}", "pad": "x" * size}
    if chance.hits(0.6):
        content["usage"] = {
            "completion_tokens": chance.randrange(9),
            "prompt_tokens": chance.randrange(50),
            "prompt_tokens_details": {"cached_tokens": chance.randrange(3)},
        }
        content["timings"] = {"predicted_per_second": chance.random() * 9}
    return json.dumps(content, separators=(",", ":")).encode()


def _lines(chance: Chance, size: int) -> list[str]:
    """Of a head: its length in whatever spelling, twice, or not at all."""
    spelling = chance.choice(["Content-Length"] * 6 + ["content-length", "Content-length", "CONTENT-LENGTH"])
    length = "0" * (chance.randrange(1, 5) if chance.hits(0.05) else 0) + str(size)
    lines = [JSON, f"{spelling}: {length}"]
    if chance.hits(0.9):
        lines.reverse()
    if chance.hits(0.03):
        lines.append("Connection: close")
    if chance.hits(0.05):
        lines.append("X-Odd: " + chance.choice(["a", "Content-Length: 7", "b" * 3000]))
    if chance.hits(0.02):
        lines.append("Content-Length: " + chance.choice([length, "5"]))
    if chance.hits(0.02):
        lines = [line for line in lines if not line.lower().startswith("content-length")]
    return lines


def _stream(chance: Chance, ident: str) -> Plan:
    """Of events, each in a chunk; llama-server closes after it without having said so."""
    words = (f"id-{ident} {number}" for number in range(chance.randrange(1, 5)))
    events = [json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}) for word in words]
    head = _head(200, "Content-Type: text/event-stream", "Transfer-Encoding: chunked")
    chunks = [_chunk(b"data: %b\n\n" % event.encode()) for event in [*events, "[DONE]"]]
    pieces, end = [head, *chunks, b"0\r\n\r\n"], [(0.0001, Deed.CLOSE)]
    if chance.hits(0.2):
        pieces = pieces[: chance.randrange(1, len(pieces))]
        end = [(_soon(chance), chance.choice(ENDS))]
    if chance.hits(0.3):
        pieces = [b"".join(pieces)]
    return [*((_soon(chance), piece) for piece in pieces), *end]


# Ways to answer


def _at_once(answer: _Answer) -> Plan:
    return [(answer.soon(), answer.whole), *answer.end]


def _in_pieces(answer: _Answer) -> Plan:
    return [*((answer.soon(), piece) for piece in answer.chance.pieces(answer.whole)), *answer.end]


def _more_than_asked(answer: _Answer) -> Plan:
    return [(answer.soon(), answer.whole + answer.chance.choice([b"x", EMPTY, answer.whole])), *answer.end]


def _more_later(answer: _Answer) -> Plan:
    return [(answer.soon(), answer.whole), *NEXT, (answer.soon(), answer.chance.choice([b"x", EMPTY]))]


def _interim(answer: _Answer) -> Plan:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    before = answer.chance.choice([b"HTTP/1.1 100 Continue\r\n\r\n", hints])
    if answer.chance.hits(0.5):
        return [(answer.soon(), before + answer.whole), *answer.end]
    return [(answer.soon(), before), (answer.soon(), answer.whole), *answer.end]


def _nothing(answer: _Answer) -> Plan:
    return [(answer.soon(), answer.chance.choice(ENDS))]


def _a_part(answer: _Answer) -> Plan:
    part = answer.whole[: answer.chance.randrange(1, len(answer.whole))]
    return [(answer.soon(), part), (answer.soon(), answer.chance.choice(ENDS))]


def _and_closes(answer: _Answer) -> Plan:
    return [(answer.soon(), answer.whole), (answer.chance.choice([0.000001, 0.001, 0.3]), Deed.CLOSE)]


def _garbage(answer: _Answer) -> Plan:
    return [(answer.soon(), b"garbage\r\n\r\n"), *answer.end]


def _chunked(answer: _Answer) -> Plan:
    body = _chunk(answer.content) + b"0\r\n\r\n" if answer.has_body else b""
    whole = _head(answer.status, JSON, "Transfer-Encoding: chunked") + body
    return [(answer.soon(), whole), (0.0001, answer.chance.choice([Deed.CLOSE, Deed.NEXT]))]


def _late(answer: _Answer) -> Plan:
    return [(30.0, answer.whole), *answer.end]


WAYS: list[tuple[float, Callable[[_Answer], Plan]]] = [
    (0.62, _at_once),
    (0.08, _in_pieces),
    (0.04, _more_than_asked),
    (0.03, _more_later),
    (0.03, _interim),
    (0.05, _nothing),
    (0.04, _a_part),
    (0.03, _and_closes),
    (0.02, _garbage),
    (0.03, _chunked),
    (0.015, _late),
]
"""What is left of 1: it hangs."""
