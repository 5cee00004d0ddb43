"""Search a log from its end backwards, within bounds: the bytes first, and only what is found as text.

A line is found by what is shown of it, so no search reveals what is hidden: a text or pattern is found in the
pieces of a line between what is hidden, as if the line ended there. It is then in the bytes, too, which tell
quickly the lines to look at; but not where a pattern asks for the end of a word, for the letter behind may be
hidden: then each line in which something may be hidden is looked at as shown. Patterns are RE2's: the time
that one takes grows with the text and not with its square.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

import re2

from supervisor_app.common.redact import HIDDEN
from supervisor_app.logs.hidden import lines_found, options
from supervisor_app.logs.history import Place, RawLine
from supervisor_app.logs.lines import LEVELS, NO_LEVEL, level_of, plain_block, plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from supervisor_app.logs.hidden import Hider
    from supervisor_app.logs.history import History, Segment

BLOCK_BYTES = 1024 * 1024
"""Bytes looked at in one go: RE2 keeps the interpreter for about a millisecond."""
LONGEST_PATTERN = 1000
PATTERN_BYTES = 1024 * 1024
"""Memory of one compiled pattern."""
_WORD_END = re.compile(r"\\[bB]")
_LEVEL_COLUMN = r"(?m:^|[^!-~\n])[{letters}] |{json}"
"""Place of a level, at its simplest: with the time before it, the search takes three times as long."""
_JSON_LINE = '"type":"log"'


class BadFilterError(Exception):
    """A mistake in a filter, as a sentence."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Lines that are looked for. An upper-case letter makes the text exact, as in many editors."""

    text: str = ""
    is_pattern: bool = False
    is_inverse: bool = False
    """Look for lines without the text."""
    levels: frozenset[str] = frozenset(LEVELS)

    @property
    def is_empty(self) -> bool:
        return not self.text and self.levels >= set(LEVELS)


class Matcher:
    """A filter, ready to be used. Raises BadFilterError."""

    def __init__(self, wanted: Filter, hider: Hider) -> None:
        if len(wanted.text) > LONGEST_PATTERN:
            raise BadFilterError(
                f"The text is too long: at most {LONGEST_PATTERN} characters are searched for."
            )
        self._wanted = wanted
        self._hider = hider
        self._pattern = _compiled(wanted) if wanted.text else None
        self._ahead = self._look_ahead()
        self._signs = self._plain_signs() if self._ahead not in (None, self._pattern) else ()

    def _look_ahead(self) -> re2._Regexp | None:
        """Return a pattern without which no line is found; None: each line is looked at."""
        wanted = self._wanted
        if self._pattern is not None and not wanted.is_inverse:
            return self._pattern
        if NO_LEVEL in wanted.levels or wanted.levels >= set(LEVELS):
            return None
        column = _LEVEL_COLUMN.format(letters=self._letters, json=_JSON_LINE)
        return re2.compile(column.encode(), options()) if self._letters else None

    @property
    def _letters(self) -> str:
        levels = self._wanted.levels
        return "".join(sorted(levels)) + ("F" if "E" in levels else "")

    def _plain_signs(self) -> tuple[re2._Regexp, ...]:
        """Return plain texts of which a block has one, or no line of these levels.

        RE2 looks for each at the speed of the memory; for the column it steps byte by byte, at 400 MB/s.
        """
        signs = (*(f"{letter} " for letter in self._letters), _JSON_LINE)
        return tuple(re2.compile(sign.encode(), options()) for sign in signs)

    def finds(self, data: bytes) -> bool:
        """Is the line one of those that are looked for?"""
        plain = plain_text(data)
        if not plain.strip() or level_of(plain) not in self._wanted.levels:
            return False
        if self._pattern is None:
            return True
        shown = self._hider.hide(plain).replace(HIDDEN, "\n")  # which no match reaches across
        return (self._pattern.search(shown.encode()) is not None) is not self._wanted.is_inverse

    def lines_in(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield offset and bytes of each line of a block that is found."""
        starts = _line_starts(block) if self._ahead is None else self._candidates(block, self._ahead)
        for start in starts:
            end = block.find(b"\n", start)
            line = block[start : end if end >= 0 else len(block)]
            if self.finds(line):
                yield start, line

    def _candidates(self, block: bytes, ahead: re2._Regexp) -> Iterator[int]:
        def find(plain: bytes) -> Iterable[int]:
            found = lines_found(ahead, plain)
            asks = self._wanted.is_pattern and ahead is self._pattern and _WORD_END.search(self._wanted.text)
            return sorted({*found, *self._hider.suspects(plain)}) if asks else found

        plain = plain_block(block)
        if self._signs and not any(sign.search(plain) for sign in self._signs):
            return
        starts = find(plain)
        yield from starts if len(plain) == len(block) else _starts_in(block, plain, starts)


def _compiled(wanted: Filter) -> re2._Regexp:
    letters = re.sub(r"\\.", "", wanted.text) if wanted.is_pattern else wanted.text
    chosen = options(case_sensitive=letters != letters.lower(), latin=False)
    chosen.max_mem = PATTERN_BYTES
    try:
        text = wanted.text if wanted.is_pattern else re2.escape(wanted.text)
        re2.compile(
            text.encode(), chosen
        )  # an error tells of what people wrote, and not of what is around it
        return re2.compile(f"(?m:{text})".encode(), chosen)
    except re2.error as error:
        said = error.args[0] if error.args else error
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise BadFilterError(
            f"This is no pattern: {reason}. Syntax: github.com/google/re2/wiki/Syntax"
        ) from error
    except UnicodeEncodeError as error:
        raise BadFilterError("The text holds half a character.") from error


def _line_starts(block: bytes) -> Iterator[int]:
    at = 0
    while at < len(block):
        yield at
        at = block.find(b"\n", at) + 1 or len(block)


def _starts_in(block: bytes, plain: bytes, found: Iterable[int]) -> Iterator[int]:
    """Yield where the lines begin in a block that are found in its plain form, which has as many lines."""
    starts: list[int] = []
    line = at = 0
    for start in found:
        starts = starts or list(_line_starts(block))
        line, at = line + plain.count(b"\n", at, start), start
        if line < len(starts):
            yield starts[line]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Bounds of one search; the next one goes on where it ended."""

    lines: int = 500
    seconds: float = 0.8
    """Below the second for which another page may wait."""


@dataclass
class Found:
    """Result of a search."""

    lines: list[RawLine] = field(default_factory=list)
    """Oldest first."""
    reached: Place | None = None
    """Searched back to here; None: to the beginning."""
    searched_bytes: int = 0


def search(
    history: History,
    matcher: Matcher,
    before: Place | None,
    budget: Budget,
    clock: Callable[[], float] = monotonic,
) -> Found:
    """Look for the newest lines before a place, or before the end, that are found."""
    found, end = Found(), clock() + budget.seconds
    newest_first: list[RawLine] = []
    for segment, start, block in history.blocks_back(before, BLOCK_BYTES):
        lines = [_raw(segment, start + at, line, block, at) for at, line in matcher.lines_in(block)]
        found.searched_bytes += len(block)
        room = budget.lines - len(newest_first)
        newest_first += reversed(lines[-room:])
        if len(lines) > room:
            found.reached = newest_first[-1].place
        elif (len(lines) == room or clock() >= end) and (start > 0 or segment is not history.segments[0]):
            found.reached = _place(segment, start)
        else:
            continue
        break
    found.lines = newest_first[::-1]
    return found


def _raw(segment: Segment, offset: int, line: bytes, block: bytes, at: int) -> RawLine:
    place = _place(segment, offset)
    is_whole = at + len(line) < len(block) or not segment.is_newest
    return RawLine(place, line, _place(segment, offset + len(line) + 1) if is_whole else place)


def _place(segment: Segment, offset: int) -> Place:
    return Place(segment.key, offset)
