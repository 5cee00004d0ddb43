"""`manage.py llama status`: servers as they are, for people and for programs."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from supervisor_app.common.redact import harmless
from supervisor_app.common.words import duration
from supervisor_app.core.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supervisor_app.fleet.snapshots import ServerView


def status_lines(views: Iterable[ServerView]) -> Iterator[str]:
    """Yield lines for a terminal: a sentence on each server, and a hint where it has failed."""
    for view in views:
        status = view.status
        up = f", up {duration(status.uptime(time.time()))}" if status.started_at else ""
        seen = f"{status.status}{up}" if view.is_known else "unknown"
        planned = " In maintenance." if view.is_planned else ""
        yield harmless(f"{status.name}: {seen}. {view.detail}{planned}")
        if status.failure is not None and status.status is not Status.READY:
            yield f"  {status.failure.hint}"


def status_json(views: Iterable[ServerView]) -> str:
    """Return the LlamaStatus of each server, as the API has it."""
    now = time.time()
    return json.dumps([view.as_json(now) for view in views], indent=2)


def all_are_ready(views: Iterable[ServerView]) -> bool:
    """Tell whether each server is ready, and a supervisor says so."""
    return all(view.is_known and view.status.status is Status.READY for view in views)
