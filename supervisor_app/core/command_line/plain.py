"""The flags that most people set, as fields in plain words: read from arguments and written to them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.argv import spelled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class PlainFlag:
    """A flag with a value that has a field of its own."""

    field: str
    names: tuple[str, ...]
    """Spellings; the first is the one that is written."""
    value: re.Pattern[str]
    """Values that the field can hold; with any other the flag stays among the arguments."""


PLAIN = (
    PlainFlag(field="context", names=("-c", "--ctx-size"), value=re.compile(r"\d{1,9}")),
    PlainFlag(field="slots", names=("-np", "--parallel"), value=re.compile(r"[1-9]\d{0,3}")),
    PlainFlag(
        field="gpu_layers",
        names=("-ngl", "--gpu-layers", "--n-gpu-layers"),
        value=re.compile(r"-1|\d{1,9}|auto|all"),
    ),
)
"""Context in tokens, requests at a time, layers on GPUs; in the order in which they are written."""
_BY_NAME = {name: flag for flag in PLAIN for name in flag.names}


def read_plain(args: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the fields that arguments set, and all other arguments.

    Of a flag that is said twice the last one counts, as llama-server has it. `--ctx-size=8192`, which
    llama-server does not know, counts as two words. A flag whose value no field can hold stays.
    """
    fields: dict[str, str] = {}
    rest: list[str] = []
    words = list(args)
    while words:
        word = words.pop(0)
        flag = _BY_NAME.get(spelled(word))
        _, has_value, value = word.partition("=")
        if flag is not None and not has_value and words:
            value = words[0]
        if flag is None or not flag.value.fullmatch(value):
            rest.append(word)
            continue
        fields[flag.field] = value
        if not has_value:
            words.pop(0)
    return fields, rest


def write_plain(fields: Mapping[str, str], rest: Sequence[str], before: Sequence[str] = ()) -> list[str]:
    """Return the arguments of fields and of all others; an empty field, or a missing one, has no flag.

    Arguments that say the same `before` stay as they are: another order would restart a server.
    """
    said = {flag.names[0]: fields[flag.field] for flag in PLAIN if fields.get(flag.field)}
    args = [*(word for pair in said.items() for word in pair), *rest]
    is_joined = any("=" in word and spelled(word) in _BY_NAME for word in before)
    return list(before) if read_plain(before) == read_plain(args) and not is_joined else args
