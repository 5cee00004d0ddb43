"""Numbers in words, one dialect for pages, console, alerts, admin, commands and errors.

A time is told in its two largest units, `s`, `m`, `h` and `d`; a size in binary units. `time.js` words
what ticks in the browser: the two must agree.
"""

from __future__ import annotations

import math
import signal
from datetime import UTC, datetime
from itertools import pairwise
from typing import overload

MISTAKE = "This is a mistake in llamaproxy"
"""Told beside the traceback of an error that nobody expected."""

_TIMES = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_JUST_NOW_SECONDS = 5


# --- Durations -----------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Return a time that passes: `42 s`, `5 m 07 s`, `2 h 05 m`, `3 d 4 h`.

    Always two units above a minute, so that nothing jumps while the time ticks.
    """
    return " ".join(f"{number} {unit}" for number, unit in _largest(seconds))


def span(seconds: float) -> str:
    """Return a time in a sentence: `0.5 s`, `5 m`, `1 m 30 s`, `2 h 05 m`. A rest of zero is left out."""
    if round(seconds, 3) < 60 or math.isinf(seconds):
        return f"{round(max(0.0, seconds), 3):g} s"
    (number, unit), (rest, rest_unit) = _largest(round(seconds, 3))
    return f"{number} {unit} {rest} {rest_unit}" if int(rest) else f"{number} {unit}"


def tenths(seconds: float) -> str:
    """Return a time as `duration` does, below ten seconds with tenths: `0.4 s`."""
    return f"{seconds:.1f} s" if 0 <= seconds < 9.95 else duration(seconds)


def milliseconds(count: float) -> str:
    """Return a time that is mostly short: `340 ms`, `2.3 s`, `1 m 07 s`."""
    return f"{count:.0f} ms" if count < 999.5 else tenths(count / 1000)


def ago(seconds: float) -> str:
    """Return how long ago something was, in its largest unit: `just now`, `42 s ago`, `12 m ago`."""
    time = age(seconds)
    return f"{time} ago" if time else "just now"


def age(seconds: float) -> str:
    """Return an age in its largest unit: `42 s`, `12 m`; nothing for what was just now."""
    if int(seconds) < _JUST_NOW_SECONDS:
        return ""
    number, unit = next(iter(_largest(int(seconds))))
    return f"{number} {unit}"


def left(seconds: float) -> str:
    """Return how long something will take: `about 12 s left`."""
    return f"about {duration(math.ceil(seconds))} left"


def _largest(seconds: float) -> list[tuple[str, str]]:
    """Return the two largest units of a time with their numbers; below a minute the seconds alone."""
    whole = max(0, int(seconds))
    for (size, unit), (smaller, rest_unit) in pairwise(_TIMES):
        if whole >= size:
            rest = whole % size // smaller
            return [(str(whole // size), unit), (str(rest) if unit == "d" else f"{rest:02}", rest_unit)]
    return [(str(whole), "s")]


# --- Sizes ---------------------------------------------------------------------------------------------


def size(count: float) -> str:
    """Return bytes in words: `512 B`, `5.1 GiB`, `640 MiB`."""
    unit = _unit(count)
    return f"{_in_unit(count, unit)} {_SIZES[unit]}"


def roughly(count: float) -> str:
    """Return bytes with two figures, for what is only estimated: `11 GiB`, `5.1 GiB`, `640 MiB`."""
    unit = _unit(count)
    value = count / 1024**unit
    return (
        f"{value:.1f} {_SIZES[unit]}"
        if value < 9.95 and unit
        else f"{float(f'{value:.2g}'):.0f} {_SIZES[unit]}"
    )


def told_apart(more: float, less: float, *, guess: bool = False) -> tuple[str, str]:
    """Return two sizes in words. Where the first is larger, that is seen: with another figure if need be.

    `guess`: the first is only estimated.
    """
    said = (roughly if guess else size)(more), size(less)
    if more <= less or _seen(said[0]) > _seen(said[1]):
        return said
    unit = _unit(more)
    digits = 1 if more / 1024**unit >= 100 else 2
    step = 1024**unit / 10**digits
    more, less = math.ceil(more / step) / 10**digits, math.floor(less / step) / 10**digits
    return f"{more:.{digits}f} {_SIZES[unit]}", f"{less:.{digits}f} {_SIZES[unit]}"


def _seen(said: str) -> float:
    number, unit = said.split()
    return float(number) * 1024.0 ** _SIZES.index(unit)


def part_of(count: float, total: float) -> str:
    """Return bytes of a whole, both in the unit of the whole: `1.2 of 2.9 GiB`."""
    unit = _unit(total)
    return f"{_in_unit(count, unit)} of {_in_unit(total, unit)} {_SIZES[unit]}"


def _unit(count: float) -> int:
    unit = 0
    while unit < len(_SIZES) - 1 and round(count / 1024**unit) >= 1024:
        unit += 1
    return unit


def _in_unit(count: float, unit: int) -> str:
    value = count / 1024**unit
    return f"{value:.0f}" if unit == 0 or value >= 100 else f"{value:.1f}"


# --- Counts --------------------------------------------------------------------------------------------


def thousands(count: int) -> str:
    """Return a count with spaces that do not break: `1 204 332`."""
    return f"{count:,}".replace(",", "\u202f")


def noun(count: int, one: str, many: str = "") -> str:
    """Return the noun that fits a count: `check`, `checks`. `many`: a plural that is not made with an s."""
    return one if count == 1 else many or f"{one}s"


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: `1 retry`, `2 retries`."""
    return f"{count} {noun(count, one, many)}"


def share(part: float) -> str:
    """Return a share of 1 in per cent, never more than it is: `100 %` is all, `99.99 %` nearly all."""
    hundredths = min(math.floor(part * 10_000 + 1e-9), 10_000 if part >= 1 else 9_999)
    return f"{hundredths / 100:g} %"


# --- How a process ended -------------------------------------------------------------------------------


def signal_name(number: int) -> str:
    """Return `SIGKILL` for 9; `unknown` for a number that this system has no name for."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def ending(code: int | None, signal_number: int | None) -> str:
    """Return how a process ended: `exit code 1`, `signal 9 (SIGKILL)`, or `unknown` when neither is known."""
    if signal_number is not None:
        return f"signal {signal_number} ({signal_name(signal_number)})"
    return "unknown" if code is None else f"exit code {code}"


def ending_of_node(code: int | None, signal_number: int | None) -> str:
    """Return the same as Node.js says it, which is the form of the console: `code 1 signal null`."""
    said = ("null" if number is None else str(number) for number in (code, signal_number))
    return "code {} signal {}".format(*said)


# --- Times ---------------------------------------------------------------------------------------------


@overload
def iso(seconds: float, timespec: str = ...) -> str: ...
@overload
def iso(seconds: float | None, timespec: str = ...) -> str | None: ...
def iso(seconds: float | None, timespec: str = "milliseconds") -> str | None:
    """Return Unix seconds as `2025-12-26T10:00:00.000Z`. `timespec` is that of `datetime.isoformat`."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def clock(seconds: float) -> str:
    """Return Unix seconds as `22 Nov, 14:03 UTC`."""
    time = datetime.fromtimestamp(seconds, UTC)
    return f"{time.day} {time:%b, %H:%M} UTC"


def instant(seconds: float) -> str:
    """Return Unix seconds to the second, for comparing with other logs: `22 Nov 2025, 14:03:12 UTC`."""
    time = datetime.fromtimestamp(seconds, UTC)
    return f"{time.day} {time:%b %Y, %H:%M:%S} UTC"
