"""A command line as people paste it, taken apart into settings. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from supervisor_app.core.command_line.argv import spelled
from supervisor_app.core.command_line.shell import CommandLineError, words_of

FIELDS = {
    "-m": "model_path",
    "--model": "model_path",
    "--models-dir": "models_dir",
    "--host": "host",
    "--port": "port",
    "--api-key": "api_key",
}
"""Flag -> the setting that takes its place."""
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


@dataclass(kw_only=True)
class TakenApart:
    """Parts of a command line."""

    environment: dict[str, str] = field(default_factory=dict)
    """Environment, from `NAME=value` before the program."""
    binary: str = ""
    """The program, if it is named by a path."""
    values: dict[str, Any] = field(default_factory=dict)
    """Setting -> value."""
    args: list[str] = field(default_factory=list)
    """The flags that have no setting of their own, as they are."""


def take_apart(command: str) -> TakenApart:
    """Take a command line apart; it may have several lines, as for a shell. Raises CommandLineError."""
    words, parts = words_of(command), TakenApart()
    while words and _ASSIGNMENT.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        parts.environment[name] = value
    if words and not words[0].startswith("-"):
        parts.binary = _program(words.pop(0))
    _take_flags(parts, words)
    return parts


def _program(word: str) -> str:
    name = word.rpartition("/")[2]
    if not name.startswith("llama-server"):
        raise CommandLineError(f"it begins with {word!r}. Begin with llama-server, its path, or the flags")
    return "" if word == "llama-server" else word


def _take_flags(parts: TakenApart, words: list[str]) -> None:
    rest = iter(words)
    for word in rest:
        flag = spelled(word)
        setting = FIELDS.get(flag)
        if setting is None:
            parts.args.append(word)
            continue
        _, has_value, value = word.partition("=")
        if not has_value:
            value = next(rest, "")
        if not value:
            raise CommandLineError(f"{flag} has no value. Write one behind it")
        if setting in parts.values:
            raise CommandLineError(f"it says {flag} twice. Leave one of them")
        parts.values[setting] = _number(flag, value) if setting == "port" else value


def _number(flag: str, value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise CommandLineError(f"{flag} is {value!r}. Write a number")
    return int(value)
