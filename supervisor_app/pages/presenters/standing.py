"""Words and signs for how a server is. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core.status import Status

if TYPE_CHECKING:
    from supervisor_app.core.status import LlamaStatus

WORDS: dict[Status, str] = {
    Status.INITIAL: "Stopped",
    Status.STARTING: "Starting",
    Status.READY: "Ready",
    Status.CRASHED: "Crashed",
    Status.ERROR: "Error",
    Status.STOPPING: "Stopping",
}
GLYPHS: dict[Status, str] = {
    Status.INITIAL: "○",
    Status.STARTING: "◐",
    Status.READY: "●",
    Status.CRASHED: "▲",
    Status.ERROR: "✕",
    Status.STOPPING: "◌",
}


def standing(status: LlamaStatus) -> str:
    """Return the status as people say it: a server that made room was not stopped by anybody."""
    return "Not loaded" if status.unloaded else WORDS[status.status]


def glyph(status: Status | str) -> str:
    """Return the same for the title of a tab, where there is no colour."""
    return GLYPHS[Status(status)]


def lede(status: LlamaStatus) -> str:
    """Return the sentence without the detail of the failure, which has a place of its own, with the hint."""
    failure = status.failure
    if failure is None or not failure.detail:
        return status.detail
    return status.detail.replace(failure.sentence, failure.title)
