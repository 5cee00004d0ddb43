"""Heads of requests and answers, as they are kept for keys that ask for it: without secrets. Pure."""

from __future__ import annotations

import re

from supervisor_app.common.redact import HIDDEN
from supervisor_app.logs.hidden import Hider

_SECRET = re.compile(r"auth|cookie|key|token|secret|passw|credential|signature|session", re.IGNORECASE)
"""Part of the name of a field whose value may let somebody in."""
_hider = Hider()


def without_secrets(head: str) -> str:
    """Return the head, line by line, with the value of each field hidden that may be a secret."""
    first, *lines = head.splitlines()
    return "\n".join([_hider.hide(first), *map(_shown, filter(None, lines))])


def _shown(line: str) -> str:
    name, colon, value = line.partition(":")
    return f"{name}: {HIDDEN}" if colon and value.strip() and _SECRET.search(name) else _hider.hide(line)
