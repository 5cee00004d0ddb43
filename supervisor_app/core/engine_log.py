"""What of a log are llama-server's own words? Pure.

A log also holds the words of others: llama-server echoes parts of requests, with their line breaks, and a
router prints what its children say. Own lines have a prefix (`0.00.031.945 E srv  start: `, of which flags
take parts away; `--log-jsonl` makes it JSON), an echo has none that fits. A few messages of the very end (a
failed assertion, an uncaught exception) have no prefix either, but nothing of llama-server's own comes after.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

MAX_LINE = 1000
"""Characters of a line that are looked at. The decisive ones are short; a runaway one must not cost time."""

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CHILD = re.compile(r"\[\d{1,5}\](?: |$)")
_STAMP = re.compile(r"(?P<minutes>\d{1,7})\.(?P<seconds>\d\d)\.(?P<fraction>\d{3}\.\d{3}) ")
_LEVEL = re.compile(r"([DIWEF]) ")
_MODULE = re.compile(r"(?:srv|slot|que|res|cmn) +\S+: ")
_FUNCTION = re.compile(r"\w*_\w*(?:\(\))?: ")
_LEVELS = {"debug": "D", "info": "I", "warn": "W", "error": "E"}
_GRAVE = frozenset("EF")


@dataclass(frozen=True, kw_only=True)
class LogLine:
    number: int
    """Its place in what was read."""
    text: str
    """As it was written, bounded and without colours."""
    message: str
    """Without llama.cpp's prefix."""
    level: str = ""
    """D, I, W, E or F; empty when the line does not say."""
    stamp: int | None = None
    """Microseconds since the process began, as llama-server says."""
    from_module: bool = False
    """It names a part of llama-server, as own lines without a stamp do."""

    @property
    def is_error(self) -> bool:
        return self.level in _GRAVE

    @property
    def may_tell(self) -> bool:
        """False for a line that says itself that it is no error."""
        return not self.level or self.is_error


def read_log(lines: Sequence[str]) -> list[LogLine]:
    """The lines without those of a router's children: what they died of, the router survives."""
    read = (_read(number, line) for number, line in enumerate(lines))
    return [line for line in read if not _CHILD.match(line.message)]


def own_words(lines: Sequence[LogLine]) -> list[LogLine]:
    """Of the log of a server that has been ready, what cannot be an echo of a request.

    Stamps never fall, and nobody outside knows them to the millisecond: a stamp that does not fit between
    those around it is part of an echo. A line without a stamp counts when it is among the last words, and
    where llama-server writes none, no other line does.
    """
    return [*([] if _is_without_stamps(lines) else _in_order(lines)), *_last_words(lines)]


def _is_without_stamps(lines: Sequence[LogLine]) -> bool:
    return any(line.stamp is None and line.from_module for line in lines)


def _in_order(lines: Sequence[LogLine]) -> list[LogLine]:
    """The lines whose stamps are at least all those before and at most all those after them."""
    stamped = [(line, line.stamp) for line in lines if line.stamp is not None]
    stamps = [stamp for _, stamp in stamped]
    before, after = accumulate(stamps, max), list(accumulate(reversed(stamps), min))
    return [
        line
        for (line, stamp), low, high in zip(stamped, before, reversed(after), strict=True)
        if low <= stamp <= high
    ]


def _last_words(lines: Sequence[LogLine]) -> Sequence[LogLine]:
    """What comes after its last own line. A debug message is most often a request, in whole."""
    own = [place for place, line in enumerate(lines) if line.stamp is not None or line.from_module]
    last = own[-1] if own else -1
    return [] if own and lines[last].level == "D" else lines[last + 1 :]


def _read(number: int, line: str) -> LogLine:
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
