"""llama.cpp's INI of models, as `llama-server --models-preset` reads it. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from supervisor_app.core.command_line.argv import spelled
from supervisor_app.core.command_line.taken_apart import FIELDS
from supervisor_app.importing.flags import server_of, words_of
from supervisor_app.importing.found import Found, ImportMistakeError, Server, remark

FOR_ALL = "*"
_COMMENT = re.compile(r"[;#].*")
"""A comment, also behind a value: quotes mean nothing there (`common/preset.cpp` of llama.cpp)."""
_SECTION = re.compile(r"\[\s*(.+?)\s*\]")
_KEY = re.compile(r"([\w.-]+)\s*=\s*(.*)")
_START = "all servers start with llamaproxy."
_REPOSITORY = ("--hf-repo", "-hf", "-hfr")


class Line(NamedTuple):
    """A line of a section."""

    line: int
    key: str
    value: str


def read_presets(text: str) -> Found:
    """Raises ImportMistakeError."""
    found = Found(kind="llama.cpp's presets of models")
    sections = _sections(text)
    for name, entries in sections.items():
        if name and name != FOR_ALL:
            found.add(_server(name, sections.get(FOR_ALL, []), entries))
    return found


def _sections(text: str) -> dict[str, list[Line]]:
    """Return the entries of each section; those before the first one are about the file."""
    sections: dict[str, list[Line]] = {"": []}
    current = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = _COMMENT.sub("", raw).strip()
        if not line:
            continue
        if section := _SECTION.fullmatch(line):
            current = section[1]
            if current in sections:
                raise ImportMistakeError(f"line {number}: there is a section [{current}] before.")
            sections[current] = []
        elif entry := _KEY.fullmatch(line):
            if entry[1] != "version":
                sections[current].append(Line(number, entry[1], entry[2].strip()))
        else:
            raise ImportMistakeError(f"line {number}: this is neither a [section] nor key = value.")
    return sections


def _server(name: str, for_all: list[Line], own: list[Line]) -> Server:
    """Return the server of a section: what it says itself comes last, and wins."""
    remarks: list[str] = []
    words: dict[str, list[str]] = {}
    grace = None
    for entry in [*for_all, *own]:
        if entry.key == "load-on-startup":
            remarks.append(remark(entry.line, entry.key, entry.value, _START))
        elif entry.key == "stop-timeout":
            if not entry.value.isdecimal():
                raise ImportMistakeError(
                    f"line {entry.line}: {name}.stop-timeout: it is {entry.value!r}, and must be seconds."
                )
            grace = int(entry.value) * 1000
        elif said := words_of(entry.key, entry.value):
            words[FIELDS.get(spelled(said[0]), said[0])] = said
        else:
            words.pop(words_of(entry.key, "true")[0], None)
    flags = [word for said in words.values() for word in said]
    has_model = words.keys() & {"model_path", "models_dir", *_REPOSITORY}
    if "/" in name and not has_model:  # the router names a model of its cache so
        flags = ["-hf", name, *flags]
    line = own[0].line if own else 1
    server = server_of(name, f"line {line}: [{name}]", flags, {})
    server.remarks += remarks
    if grace is not None:
        server.values["stop_grace_ms"] = grace
    return server
