"""Secrets out of text that people will see. By shape, and by value where we know it."""

from __future__ import annotations

import re
from collections.abc import Sequence

HIDDEN = "[redacted]"
SHAPES = re.compile(
    r"""
    (?P<keep> \b(?: bearer | authorization:\s*\w+ ) \s+ ) [^\s"',]+                       # HTTP headers
    | (?P<name> (?: api[-_]?key | token | secret | password | passwd ) ["']? \s* [=:] \s* ["']? ) [^\s"',;}&]+
    | \b (?: sk | hf | ghp | gho | xox[abp] ) [-_] [A-Za-z0-9_-]{8,}                      # keys by prefix
    """,
    re.IGNORECASE | re.VERBOSE,
)
SHORTEST = 4
"""Characters: a shorter secret would hide ordinary words."""
NUMBERS = re.compile(r"[\d.,%/-]+")


def redact(line: str, secrets: Sequence[str] = ()) -> str:
    """The line without secrets: `token = 5` is a count, `token = abc` is not."""
    for secret in secrets:
        if len(secret) >= SHORTEST:
            line = line.replace(secret, HIDDEN)
    return SHAPES.sub(_hide, line)


def _hide(match: re.Match[str]) -> str:
    if (keep := match["keep"]) is not None:
        return keep + HIDDEN
    if (name := match["name"]) is not None:
        value = match[0][len(name) :]
        return match[0] if NUMBERS.fullmatch(value) else name + HIDDEN
    return HIDDEN
