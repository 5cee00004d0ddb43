"""What changed between two command lines, flag by flag. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FLAG = re.compile(r"-(?!\d)")


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
    """What comes before the first flag, and each flag with its values: a repeated one has several."""
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
