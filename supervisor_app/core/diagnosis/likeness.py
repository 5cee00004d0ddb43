"""Likeness of two crashes: a decisive line without what differs from one crash to the next. Pure."""

from __future__ import annotations

import hashlib
import re

from supervisor_app.core.diagnosis.engine_log import read_line

LONGEST = 300
"""Characters that are kept: the beginning of a line tells the cause."""
_END = r"""\s'"`:,;()\[\]"""
_VARIES = re.compile(
    rf"""
    (?P<quoted> ' [^'/\\]* [/\\] [^']* ' | " [^"/\\]* [/\\] [^"]* " )
    | (?P<file> (?<! \w) (?: [A-Za-z]: | ~ | \.{{1,2}} | [\w.-]+ )? [/\\] [^{_END}]* )
    | (?P<model> [^{_END}]+ \.gguf \b )
    | (?P<id> \b 0x[0-9a-f]+ \b
            | \b [0-9a-f]{{8}} (?: - [0-9a-f]{{4}} ){{3}} - [0-9a-f]{{12}} \b
            | \b (?= [a-f]* \d ) (?= \d* [a-f] ) [0-9a-f]{{8,}} \b )
    | (?P<size> \b \d+ (?: \. \d+ )? \s? (?: [KMGT]i?B | bytes | B ) \b )
    | (?P<number> (?<! [\w] ) -? \d+ (?: [.:] \d+ )* \b )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SOURCE = re.compile(r"[\w-]+\.(?:c|cc|cpp|cu|cuh|h|hpp|inl|m|metal)")


def likeness(line: str) -> str:
    """Return what a decisive line has in common with those of the same cause.

    Numbers, sizes, addresses and paths become words; of a path to a source file its name stays.
    """
    return " ".join(_VARIES.sub(_kept, read_line(0, line).message).split())[:LONGEST]


def key_of(kind: str, line: str, model: str) -> str:
    """Return what crashes of one cause share: 32 hexadecimal digits. `line`: the decisive one."""
    return hashlib.sha256("\n".join((kind, likeness(line), model)).encode()).hexdigest()[:32]


def _kept(match: re.Match[str]) -> str:
    found = str(match.lastgroup)
    if found == "file" and _SOURCE.fullmatch(name := re.split(r"[/\\]", match[0])[-1]):
        return name
    word = {"quoted": "path", "file": "path", "model": "path"}.get(found, found)
    return f"<{word}>"
