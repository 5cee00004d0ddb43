"""Acts of people: the only writer of `AuditEntry`. An act and its row are written in one transaction.

The way in (a middleware for browsers and programs, the `llama` command, the reader of the file) says once who
acts and from where; what acts says what it does. A `ContextVar` brings both together: asgiref copies it into
the threads of views (https://github.com/django/asgiref, `sync_to_async`).
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from supervisor_app.common.redact import HIDDEN, redact, redact_argv
from supervisor_app.fleet.audit_tables import AuditEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

KEPT = timedelta(days=365)
LONGEST_TEXT = 500
LONGEST_SIDE = 8000
"""Characters of JSON kept of what was before, and of what was after."""
LEFT_OUT = "too long, left out"


class Door(StrEnum):
    """A way in."""

    PAGE = "page"
    API = "api"
    ADMIN = "admin"
    CLI = "cli"
    FILE = "file"


def _console() -> str:
    return "console"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Somebody who acts, and the way in."""

    actor: Callable[[], str] = _console
    """Asked when there is something to write: to read a session costs a query."""
    door: Door = Door.CLI
    address: str = ""


_origin: ContextVar[Origin] = ContextVar("origin_of_acts", default=Origin())  # noqa: B039  (frozen)


@contextmanager
def acting(origin: Origin) -> Iterator[None]:
    """Take what is done within for acts of this origin."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """Take what is done within for acts of somebody else, who came the same way."""
    with acting(replace(_origin.get(), actor=lambda: name)):
        yield


def note(
    action: str, subject: str, before: Mapping[str, Any] | None = None, after: Mapping[str, Any] | None = None
) -> None:
    """Write down an act of whoever acts here, within the transaction of that act."""
    record(_origin.get(), action, subject, before, after)


def record(
    origin: Origin,
    action: str,
    subject: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write down an act, within its transaction. `before`, `after`: what can be JSON, or is told as text."""
    AuditEntry(
        actor=_text(origin.actor(), 1000),
        door=origin.door,
        action=_text(action, 100),
        subject=_text(subject, 300),
        before=told(before),
        after=told(after),
        address=origin.address[:100],
    ).save(force_insert=True)


def told(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return values without secrets, as JSON of bounded length. Flags of a server are under `args`."""
    if values is None:
        return None
    kept = {name: _told(redact_argv(value) if name == "args" else value) for name, value in values.items()}
    if len(json.dumps(kept)) <= LONGEST_SIDE:
        return kept
    return {
        name: value if len(json.dumps(value)) <= LONGEST_TEXT else LEFT_OUT
        for name, value in list(kept.items())[:100]
    }


def differences(before: Mapping[str, Any], after: Mapping[str, Any], changed: set[str]) -> tuple[Any, Any]:
    """Return what has changed alone: as it was, and as it is."""
    old = {name: value for name, value in before.items() if name in changed}
    return old, {name: value for name, value in after.items() if name in changed}


def _told(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case {}:
            return {_text(str(name), LONGEST_TEXT): _told(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_told(each) for each in value]
    return _text(str(value), LONGEST_TEXT)


def _text(text: str, longest: int) -> str:
    return text if text == HIDDEN else redact(text.replace("\x00", ""))[:longest]
