"""Lines of a TOML file: where a key stands, which `tomllib` does not tell."""

from __future__ import annotations

import re
import tomllib
from typing import Any

KeyPath = tuple[str, ...]
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_TABLE = re.compile(r"\s*\[[^\[].*")


class Lines:
    """Lines of the tables and keys of a text that `tomllib` has read.

    A line within a text of several lines may be taken for a key: the numbers are for people to look.
    """

    def __init__(self, text: str) -> None:
        self._found: dict[KeyPath, int] = {}
        table: KeyPath = ()
        for number, line in enumerate(text.splitlines(), 1):
            if _TABLE.fullmatch(line):
                table = _path(line) or table
                self._found.setdefault(table, number)
            elif key := _KEY.match(line):
                self._found.setdefault((*table, *_path(f"{key[1]} = 0")), number)

    def of(self, *path: str) -> int:
        """Return the line of a key, else of what it stands in; 1 if neither is found."""
        for length in range(len(path), 0, -1):
            if line := self._found.get(path[:length]):
                return line
            inside = [line for found, line in self._found.items() if found[:length] == path[:length]]
            if inside:
                return min(inside)
        return 1


def _path(line: str) -> KeyPath:
    """Return the parts of the key of a line: `tomllib` knows how they are quoted."""
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    parts = []
    while isinstance(value, dict) and value:
        ((part, value),) = value.items()
        parts.append(part)
    return tuple(parts)
