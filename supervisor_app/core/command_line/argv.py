"""Command lines: how flags are spelled, and what changed between two of them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FLAG = re.compile(r"-(?!\d)")


def spelled(word: str) -> str:
    """Return the flag that llama-server reads in this word: it takes `_` for `-` in long flags.

    `--flag=value`, which llama-server does not know, counts as the flag.
    """
    flag = word.partition("=")[0]
    return flag.replace("_", "-") if flag.startswith("--") else flag


def spelled_out(args: Iterable[str]) -> tuple[str, ...]:
    """Return the words with each long flag spelled as in `llama-server --help`, to be looked up."""
    return tuple(word.replace("_", "-") if word.startswith("--") else word for word in args)


@dataclass(frozen=True)
class Beside:
    """A value of two runs, each None where it is not there."""

    name: str
    before: str | None
    after: str | None

    @property
    def differs(self) -> bool:
        return self.before != self.after


def beside(before: Mapping[str, str], after: Mapping[str, str]) -> list[Beside]:
    """Return the values of both, in the order of the second; those that it lacks come last."""
    names = [*after, *(name for name in before if name not in after)]
    return [Beside(name, before.get(name), after.get(name)) for name in names]


def flags_beside(before: Sequence[str], after: Sequence[str]) -> list[Beside]:
    """Return the flags of two command lines, with all values of each; the program is the flag ``."""
    return beside(_values(before), _values(after))


def _values(argv: Sequence[str]) -> dict[str, str]:
    program, flags = _parsed(argv)
    return {"": program, **{flag: " ".join(values) for flag, values in flags.items()}} if argv else {}


def argv_diff(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    """`-c 8192 -> 32768`, `added --mlock`, `removed -ngl 99`; empty when both launch the same."""
    old_program, old_flags = _parsed(before)
    new_program, new_flags = _parsed(after)
    changes = [] if old_program == new_program else [f"{old_program or '-'} -> {new_program or '-'}"]
    for flag, values in new_flags.items():
        if flag not in old_flags:
            changes.append(f"added {_said(flag, values)}")
        elif values != old_flags[flag]:
            changes.append(f"{_said(flag, old_flags[flag])} -> {' '.join(values) or 'without a value'}")
    changes += [
        f"removed {_said(flag, values)}" for flag, values in old_flags.items() if flag not in new_flags
    ]
    return tuple(changes)


def _parsed(argv: Sequence[str]) -> tuple[str, dict[str, list[str]]]:
    """Split into the words before the first flag, and each flag with all of its values."""
    program: list[str] = []
    flags: dict[str, list[str]] = {}
    values = program
    for word in argv:
        if _FLAG.match(word):
            values = flags.setdefault(word, [])
        else:
            values.append(word)
    return " ".join(program), flags


def _said(flag: str, values: Sequence[str]) -> str:
    return " ".join([flag, *values])
