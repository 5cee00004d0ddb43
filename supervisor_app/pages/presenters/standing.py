"""Words and signs for how a server is. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext, gettext_lazy

from supervisor_app.core.status import Status

if TYPE_CHECKING:
    from supervisor_app.core.status import LlamaStatus

_WORDS = {
    Status.INITIAL: gettext_lazy("Stopped"),
    Status.STARTING: gettext_lazy("Starting"),
    Status.READY: gettext_lazy("Ready"),
    Status.CRASHED: gettext_lazy("Crashed"),
    Status.ERROR: gettext_lazy("Error"),
    Status.STOPPING: gettext_lazy("Stopping"),
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
    return word_of(status.status, unloaded=status.unloaded)


def word_of(status: Status, *, unloaded: bool = False) -> str:
    """Return the word for a status, in the language of the page."""
    return gettext("Not loaded") if unloaded else str(_WORDS[status])


def glyph(status: Status | str) -> str:
    """Return the same for the title of a tab, where there is no colour."""
    return GLYPHS[Status(status)]


def lede(status: LlamaStatus) -> str:
    """Return the sentence without the detail of the failure, which has a place of its own, with the hint."""
    failure = status.failure
    if failure is None or not failure.detail:
        return status.detail
    return status.detail.replace(failure.sentence, failure.title)
