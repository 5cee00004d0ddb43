"""Tell llama-server's own words in a log from those of others. Pure.

A log also holds the words of others: llama-server echoes parts of requests, with their line breaks, and a
router prints what its children say. Own lines have a prefix (`0.00.031.945 E srv  start: `, of which flags
take parts away; `--log-jsonl` makes it JSON), an echo has none that fits. A few messages of the very end (a
failed assertion, an uncaught exception) have no prefix either, but nothing of llama-server's own comes after.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_LINE = 1000
"""Characters of a line that are looked at. The decisive ones are short; a runaway one must not cost time."""

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CHILD = re.compile(r"\[\d{1,5}\](?: |$)")
_STAMP = re.compile(r"(?P<minutes>\d{1,7})\.(?P<seconds>\d\d)\.(?P<fraction>\d{3}\.\d{3}) ")
_LEVEL = re.compile(r"([DIWEF]) ")
_MODULE = re.compile(r"(?:srv|slot|que|res|cmn) +\S+: ")
_FUNCTION = re.compile(r"\w*_\w*(?:\(\))?: ")
_HARMLESS = re.compile(r"(?:prompt )?eval time +=|total time +=|$")
"""Beginnings of the lines in which older builds tell the time that a request took."""
_ECHO = re.compile(r"\w+: error parsing grammar: ")
"""The beginning of the echo of a grammar."""
_LEVELS = {"debug": "D", "info": "I", "warn": "W", "error": "E"}
_GRAVE = frozenset("EF")


@dataclass(frozen=True, kw_only=True)
class LogLine:
    number: int
    """Place of the line in what was read."""
    text: str
    """The line as it was written, bounded and without colours."""
    message: str
    """The line without llama.cpp's prefix."""
    level: str = ""
    """D, I, W, E or F; empty when the line does not say."""
    stamp: int | None = None
    """Microseconds since the process began, as llama-server says."""
    from_module: bool = False
    """Does the line name a part of llama-server, as own lines without a stamp do?"""

    @property
    def may_go_on(self) -> bool:
        """The next line may be its rest: a quote is open, or it is a debug message, which holds requests."""
        return self.level == "D" or any(self.text.count(quote) % 2 for quote in ("'", '"'))

    @property
    def is_error(self) -> bool:
        return self.level in _GRAVE

    @property
    def may_tell(self) -> bool:
        """False for a line that says itself that it is no error."""
        return not self.level or self.is_error


def read_log(lines: Sequence[str]) -> list[LogLine]:
    """The lines without those of a router's children: what they died of, the router survives."""
    read = (read_line(number, line) for number, line in enumerate(lines))
    return [line for line in read if not _CHILD.match(line.message)]


def own_words(lines: Sequence[LogLine], is_telling: Callable[[LogLine], bool]) -> Sequence[LogLine]:
    """Select what cannot be an echo of a request from the log of a server that has been ready.

    From the first line on that llama-server's log would not have written so, all may be an echo: own lines
    count before it. It counts itself, with what follows, when it tells a cause and nothing of llama-server's
    own comes after. `is_telling`: would the line tell a cause, if it were genuine?
    """
    is_stamped = any(line.stamp is not None for line in lines)

    def is_own(line: LogLine) -> bool:
        return line.stamp is not None if is_stamped else bool(line.level) or line.from_module

    if not any(is_own(line) or _ECHO.match(line.text) for line in lines):
        return lines  # another program's log, or that of a fork
    foreign = (
        place for place, line in enumerate(lines) if not is_own(line) and not _HARMLESS.match(line.text)
    )
    first = next(foreign, len(lines))
    if not is_stamped:
        goes_on = (place for place in range(1, first) if lines[place - 1].may_go_on)
        first = next(goes_on, first)
    own = [line for line in lines[:first] if is_own(line)]
    words = lines[first:]
    counts = words and is_telling(words[0]) and not any(is_own(line) for line in words)
    if not counts or (first > 0 and lines[first - 1].may_go_on):
        words = []
    return [*(_in_order(own, lines) if is_stamped else own), *words]


def _in_order(own: Sequence[LogLine], lines: Sequence[LogLine]) -> list[LogLine]:
    """Select the lines whose stamps are at least all before them and at most all after them.

    Stamps never fall, and nobody outside knows them to the millisecond: another one is part of an echo.
    """
    stamped = [(line.number, line.stamp) for line in lines if line.stamp is not None]
    stamps = [stamp for _, stamp in stamped]
    before, after = accumulate(stamps, max), list(accumulate(reversed(stamps), min))
    fitting = {
        number
        for (number, stamp), low, high in zip(stamped, before, reversed(after), strict=True)
        if low <= stamp <= high
    }
    return [line for line in own if line.number in fitting]


def read_line(number: int, line: str) -> LogLine:
    """Take one line of any process apart."""
    text = _ANSI.sub("", line[:MAX_LINE]).strip()
    if line.startswith('{"type":"log"'):
        return _read_json(number, line, text)
    stamp, rest = None, text
    if stamped := _STAMP.match(rest):
        fraction = int(stamped["fraction"].replace(".", ""))
        stamp = (int(stamped["minutes"]) * 60 + int(stamped["seconds"])) * 1_000_000 + fraction
        rest = rest[stamped.end() :]
    level = _LEVEL.match(rest)
    rest = rest[level.end() :] if level else rest
    return LogLine(
        number=number,
        text=text,
        message=_message(rest),
        level=level[1] if level else "",
        stamp=stamp,
        from_module=_MODULE.match(rest) is not None,
    )


def _read_json(number: int, line: str, text: str) -> LogLine:
    """A line of `--log-jsonl`. Its message may have several lines: only the first one is llama-server's."""
    try:
        said = json.loads(line)
        message, level, stamp = str(said["msg"]), _LEVELS.get(str(said["level"]), ""), int(said["time"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return LogLine(number=number, text=text, message=text)
    first = message[:MAX_LINE].partition("\n")[0]
    return LogLine(number=number, text=text, message=_message(first), level=level, stamp=stamp)


def _message(rest: str) -> str:
    named = _MODULE.match(rest) or _FUNCTION.match(rest)
    return (rest[named.end() :] if named else rest).strip()
