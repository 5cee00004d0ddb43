"""A line of a log as people see it: without secrets, with its level, its colours as classes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor_app.common.redact import harmless
from supervisor_app.core.diagnosis.engine_log import read_line
from supervisor_app.core.machine.logs import MAX_LINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor_app.logs.hidden import Hider
    from supervisor_app.logs.history import Place, RawLine

NO_LEVEL = "-"
"""Level of a line that does not say its own."""
LEVELS = ("E", "W", "I", "D", NO_LEVEL)
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[@-Z\\-_])?")
"""A whole escape sequence: CSI, OSC, or one of two characters."""
_COLOUR = re.compile(r"\x1b\[([0-9;]*)m")
_NOT_SHOWN = re.compile(rb"\0|" + _ESCAPE.pattern.encode())


@dataclass(frozen=True)
class Span:
    """A piece of a line in one colour."""

    text: str
    style: str = ""
    """Classes of the style sheet, such as `b c1`: bold and red."""


@dataclass(frozen=True)
class Line:
    place: Place
    end: Place
    spans: tuple[Span, ...]
    level: str
    """Level, of `LEVELS`."""
    stamp: int | None
    """Microseconds since its process began, as the engine says."""

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)


def shown_text(data: bytes) -> str:
    """Return a line as it is shown, escape sequences included: readable, in one row."""
    return data.decode("utf-8", "replace").replace("\0", "").replace("\r", " ")


def plain_text(data: bytes) -> str:
    """Return a line without escape sequences."""
    text = shown_text(data)
    return _ESCAPE.sub("", text) if "\x1b" in text else text


def plain_block(block: bytes) -> bytes:
    """Return a block of lines as `plain_text` does each, in bytes."""
    if b"\x1b" in block or b"\0" in block:
        block = _NOT_SHOWN.sub(b"", block)
    return block.replace(b"\r", b" ")


def line_of(raw: RawLine, hider: Hider) -> Line:
    plain = plain_text(raw.data)
    hidden = hider.hide(plain)
    if hidden == plain and b"\x1b" in raw.data:
        spans = tuple(_cut(coloured(shown_text(raw.data))))
    else:
        spans = tuple(_cut([Span(hidden)]))
    read = read_line(0, plain)
    return Line(raw.place, raw.end, spans, _level(read.level), read.stamp)


def level_of(text: str) -> str:
    return _level(read_line(0, text).level)


def _level(letter: str) -> str:
    return "E" if letter == "F" else letter or NO_LEVEL


def coloured(text: str) -> Iterator[Span]:
    """Split a text at its colours (SGR); every other escape sequence goes."""
    style = _Style()
    at = 0
    for escape in _ESCAPE.finditer(text):
        if escape.start() > at:
            yield Span(text[at : escape.start()], style.classes)
        at = escape.end()
        if colour := _COLOUR.fullmatch(escape[0]):
            style = style.after(colour[1])
    if at < len(text):
        yield Span(text[at:], style.classes)


@dataclass(frozen=True)
class _Style:
    bold: bool = False
    dim: bool = False
    colour: int | None = None
    """0 to 7 and their bright ones, 8 to 15."""

    @property
    def classes(self) -> str:
        colour = None if self.colour is None else f"c{self.colour}"
        return " ".join(filter(None, ("b" if self.bold else "", "d" if self.dim else "", colour)))

    def after(self, codes: str) -> _Style:
        style, rest = self, [int(code or 0) for code in codes[:60].split(";")]
        while rest:
            code = rest.pop(0)
            if code in (38, 48):  # of 256 colours, or any: those without a class of ours are left out
                wide = rest[:2] if rest[:1] == [5] else rest[:4]
                del rest[: len(wide)]
                if code == 38 and len(wide) == 2:
                    style = _Style(style.bold, style.dim, wide[1] if wide[1] < 16 else None)
            else:
                style = style._with(code)
        return style

    def _with(self, code: int) -> _Style:
        if code == 0:
            return _Style()
        if code in (1, 2, 22):
            return _Style(code == 1 or (code == 2 and self.bold), code == 2, self.colour)
        if 30 <= code <= 37:
            return _Style(self.bold, self.dim, code - 30)
        if 90 <= code <= 97:
            return _Style(self.bold, self.dim, code - 82)
        return _Style(self.bold, self.dim) if code == 39 else self


def _cut(spans: Iterator[Span] | list[Span]) -> Iterator[Span]:
    """Bound a line to `MAX_LINE` characters, and spell out what could rewrite a terminal or the page."""
    left = MAX_LINE
    for span in spans:
        if len(span.text) > left:
            yield Span(f"{harmless(span.text[:left])}…", span.style)
            return
        left -= len(span.text)
        yield Span(harmless(span.text), span.style)
