"""The downloads of a node: started, followed and ended as people want, each in its own process. Blocking."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import F, Q
from django.utils import timezone

from supervisor_app.common.database import Rows, Unchanged
from supervisor_app.common.redact import harmless
from supervisor_app.common.storage import storable
from supervisor_app.common.words import ending, size
from supervisor_app.library.hub.part import part_of_file
from supervisor_app.library.hub.repository import is_safe
from supervisor_app.modelfiles.fetcher import Fetcher
from supervisor_app.modelfiles.models import Desired, Download, State
from supervisor_app.modelfiles.places import own_directory
from supervisor_app.modelfiles.steps import chosen_to_start, following

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from django.db.models import QuerySet

    from supervisor_app.fleet.conf import Overlay

log = logging.getLogger(__name__)

MB = 1_000_000
MOST_DEATHS = 3
"""Times that a process may die without a word, and without a byte more, before people are asked."""
KEPT = timedelta(days=7)
"""Time for which a download is listed that is done or cancelled."""


class Downloads:
    """The downloads of one node, or `only` one of them: the supervisor's, or a command's without one."""

    def __init__(
        self,
        node: str,
        overlay: Callable[[], Overlay],
        *,
        finished: Callable[[], object] = lambda: None,
        only: int | None = None,
    ) -> None:
        """`finished`: told that there is a new model on the disk."""
        self._node = node
        self._overlay = overlay
        self._finished = finished
        self._only = only
        self._found = Unchanged(lambda: list(self._rows()), rows=Rows(self._rows))
        self._fetchers: dict[int, Fetcher] = {}
        self._deaths: dict[int, tuple[int, int]] = {}
        """Deaths in a row of a download's processes, and the bytes at the last of them."""

    def look(self) -> None:
        """Do what is to be done now. Raises what the database raises."""
        rows = self._found()
        if not rows and not self._fetchers:
            return
        for row in rows:
            self._hear(row)
        for row in rows:
            self._step(row)
        self._start(rows)
        for pk in self._fetchers.keys() - {row.pk for row in rows}:  # somebody deleted the row
            self._fetchers.pop(pk).end()

    def leave(self) -> None:
        """End all processes; their downloads go on with the next supervisor."""
        for pk, fetcher in self._fetchers.items():
            fetcher.end()
            Download.objects.filter(pk=pk).update(state=State.WANTED, speed=0, trouble="")
        self._fetchers.clear()

    def prune(self) -> None:
        """Delete rows of which nobody wants to hear any more."""
        old = Q(state__in=(State.DONE, State.CANCELLED), ended_at__lt=timezone.now() - KEPT)
        Download.objects.filter(old, node=self._node).delete()

    def _rows(self) -> QuerySet[Download]:
        over = Q(state=State.DONE) | Q(state=State.CANCELLED, attempt=F("tried"))
        over |= Q(state=State.FAILED, attempt=F("tried")) & ~Q(desired=Desired.CANCEL)
        rows = Download.objects.filter(node=self._node).exclude(over)
        return rows if self._only is None else rows.filter(pk=self._only)

    # News of the processes

    def _hear(self, row: Download) -> None:
        fetcher = self._fetchers.get(row.pk)
        if fetcher is None:
            return
        runs = fetcher.runs
        changes: dict[str, Any] = {}
        for news in fetcher.news():
            changes |= _told(news)
        if not runs and "state" not in changes:
            changes |= self._died(row, fetcher)
        if not runs or changes.get("state") in (State.DONE, State.FAILED):
            self._fetchers.pop(row.pk).end()
        _save(row, changes)
        if changes.get("state") == State.DONE:
            log.info("📥 [MODELS] %s is here: %s", harmless(str(row)), size(row.total))
            self._finished()
        elif changes.get("state") == State.FAILED:
            log.warning("⚠️ [MODELS] %s failed: %s", harmless(str(row)), harmless(row.error))

    def _died(self, row: Download, fetcher: Fetcher) -> dict[str, Any]:
        """Try again after a process died, unless that got nowhere some times."""
        deaths, done = self._deaths.get(row.pk, (0, -1))
        deaths = deaths + 1 if row.done <= done else 1
        self._deaths[row.pk] = deaths, row.done
        code = fetcher.exit_code or 0
        how = ending(code if code >= 0 else None, -code if code < 0 else None)
        log.warning(
            "⚠️ [MODELS] The process of %s ended with %s. %s",
            harmless(str(row)),
            how,
            harmless(fetcher.last_words),
        )
        if deaths < MOST_DEATHS:
            return {"state": State.WANTED, "speed": 0}
        error = f"Its process ended with {how}, {deaths} times. The console of its supervisor says more."
        return {"state": State.FAILED, "speed": 0, "error": error, "ended_at": timezone.now()}

    # Steps

    def _step(self, row: Download) -> None:
        state = following(
            row.state,
            row.desired,
            is_again=row.attempt > row.tried,
            has_process=row.pk in self._fetchers,
        )
        if state == row.state:
            return
        if row.pk in self._fetchers:
            self._fetchers.pop(row.pk).end()
        changes: dict[str, Any] = {"state": state, "speed": 0, "trouble": ""}
        if state == State.CANCELLED:
            self._drop(row)
            changes |= {"done": 0, "total": 0, "files": [], "commit": "", "error": ""}
            changes |= {"tried": row.attempt, "ended_at": timezone.now()}
        elif state == State.WANTED:
            changes["error"] = ""
        _save(row, changes)

    def _start(self, rows: list[Download]) -> None:
        rules = self._overlay().models
        waiting = {row.pk: row for row in rows if row.state == State.WANTED}
        for pk in chosen_to_start(waiting, len(self._fetchers), rules.parallel_downloads):
            row = waiting[pk]
            try:
                self._fetchers[pk] = Fetcher(self._job(row))
            except OSError as error:
                _save(row, {"trouble": f"There is no process to be had: {error.strerror}."})
                return
            _save(row, {"state": State.RUNNING, "tried": row.attempt, "error": "", "ended_at": None})
        share = rules.download_mb_per_second * MB / max(1, len(self._fetchers))
        for fetcher in self._fetchers.values():
            fetcher.bound(share)

    def _job(self, row: Download) -> dict[str, Any]:
        return {
            "do": "fetch",
            "repository": row.repository,
            "revision": row.revision,
            "label": row.label,
            "projector": row.projector,
            "commit": row.commit,
            "files": row.files,
            "directory": str(self._directory(row)),
        }

    def _directory(self, row: Download) -> Path:
        return own_directory(self._overlay().models).joinpath(*row.repository.split("/"))

    def _drop(self, row: Download) -> None:
        """Remove what is not whole, and the directories in which nothing is left."""
        directory = self._directory(row)
        for path in (path for path, *_ in row.files if is_safe(path)):
            with suppress(OSError):
                part_of_file(directory / path).unlink()
        with suppress(OSError):
            directory.rmdir()
            directory.parent.rmdir()


def _told(news: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that news of a process change."""
    if plan := news.get("plan"):
        total = sum(size for _, size, _ in plan["files"])
        return {
            "commit": plan["commit"],
            "files": plan["files"],
            "chosen": plan["label"],
            "total": total,
        }
    if "failed" in news:
        return {
            "state": State.FAILED,
            "error": str(news["failed"]),
            "speed": 0,
            "trouble": "",
            "ended_at": timezone.now(),
        }
    if "finished" in news:
        return {"state": State.DONE, "speed": 0, "trouble": "", "ended_at": timezone.now()}
    return {name: news[name] for name in ("done", "total", "trouble")} | {"speed": int(news["speed"])}


def _save(row: Download, changes: Mapping[str, Any]) -> None:
    """Write our own columns alone: people may have written theirs since."""
    if not changes:
        return
    kept = storable(dict(changes))
    for name, value in kept.items():
        setattr(row, name, value)
    Download.objects.filter(pk=row.pk).update(**kept)
