"""Wishes of people about downloads, and looks at the hub before: for pages and commands."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from supervisor_app.common.redact import harmless
from supervisor_app.fleet.audit import note
from supervisor_app.library.hub.repository import Listing, checked_repository, checked_revision
from supervisor_app.modelfiles.fetcher import ANSWER_SECONDS, Fetcher
from supervisor_app.modelfiles.models import Desired, Download, State
from supervisor_app.modelfiles.steps import ENDED, WISHES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

log = logging.getLogger(__name__)

DESIRED = {
    "pause": Desired.PAUSE,
    "cancel": Desired.CANCEL,
    "resume": Desired.RUN,
    "retry": Desired.RUN,
}


class NoAnswerError(Exception):
    """A look at the hub that failed; the text is a sentence."""


def look_up(repository: str, revision: str = "main") -> Listing:
    """Ask the hub what a repository has, in a process of its own. Raises NoAnswerError, WrongNameError."""
    job = {
        "do": "list",
        "repository": checked_repository(repository),
        "revision": checked_revision(revision),
    }
    try:
        fetcher = Fetcher(job)
    except OSError as error:
        raise NoAnswerError(f"This machine cannot start a process: {error.strerror}.") from error
    try:
        told: Mapping[str, Any] = fetcher.wait(ANSWER_SECONDS) or {}
    finally:
        fetcher.end()
    if fetcher.last_words:
        log.warning("⚠️ [MODELS] A look at %s failed: %s", job["repository"], harmless(fetcher.last_words))
    if "listing" in told:
        return Listing.from_json(told["listing"])
    raise NoAnswerError(str(told.get("failed") or "The hub did not answer. Try again in a moment."))


def ask_download(
    node: str, repository: str, label: str, *, revision: str = "main", projector: bool = False, who: str = ""
) -> Download:
    """Ask a node for a model. One that is asked for already goes on. Raises WrongNameError."""
    wanted = {
        "node": node,
        "repository": checked_repository(repository),
        "revision": checked_revision(revision),
        "label": label[:200],
        "projector": projector,
    }
    with transaction.atomic():
        known = Download.objects.filter(**wanted).exclude(state__in=(State.DONE,)).last()
        if known is None:
            note("download", f"model {wanted['repository']}", None, wanted)
            return Download.objects.create(**wanted, asked_by=who, asked_at=timezone.now())
    wish_of(known, "retry" if known.state in ENDED else "resume")
    return known


def wish_of(row: Download, wish: str) -> None:
    """Note what people want of a download: pause, resume, cancel or retry."""
    if wish not in WISHES:
        raise ValueError(f"{wish!r} is no wish; {', '.join(WISHES)} are.")
    changes: dict[str, Any] = {"desired": DESIRED[wish]}
    if wish == "retry":
        changes["attempt"] = F("attempt") + 1
    with transaction.atomic():
        Download.objects.filter(pk=row.pk).update(**changes)
        subject = f"download of {row.repository} {row.label}".strip()
        note(wish, subject, {"desired": row.desired}, {"node": row.node, "desired": DESIRED[wish]})
