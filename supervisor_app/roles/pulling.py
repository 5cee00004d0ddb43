"""`manage.py llama pull` and `llama models`: the page of models in a terminal."""

from __future__ import annotations

import json
import sys
import time
from getpass import getuser
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from supervisor_app.common.redact import harmless
from supervisor_app.common.table import aligned
from supervisor_app.common.words import left, part_of, size
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.lease import is_supervised
from supervisor_app.fleet.models import this_node
from supervisor_app.library.hub.repository import WrongNameError, taken_apart
from supervisor_app.modelfiles.asking import ask_download, wish_of
from supervisor_app.modelfiles.downloads import Downloads
from supervisor_app.modelfiles.models import Download, ModelFile, State
from supervisor_app.modelfiles.shelving import shelve
from supervisor_app.modelfiles.steps import ENDED

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED, BAD_NAME, INTERRUPTED = 1, 2, 130
LOOK_SECONDS = 0.5
FITS = {True: "yes", False: "no", None: "?"}
BAR = 24
"""Characters of a bar."""


def pull(said: str | None, *, projector: bool, write: Callable[..., object]) -> None:
    """Download a model to this node, and show how far it is. Raises CommandError.

    The supervisor of this node does it, if one runs; else this command does.
    """
    try:
        repository, label = taken_apart(said or "")
        row = ask_download(this_node(), repository, label, projector=projector, who=getuser()[:150])
    except WrongNameError as error:
        raise CommandError(str(error), returncode=BAD_NAME) from error
    own = None if is_supervised(row.node) else Downloads(row.node, last_good, only=row.pk)
    shown = _Shown(write)
    try:
        while True:
            if own is not None:
                own.look()
            row.refresh_from_db()
            shown.show(row)
            if _is_over(row):
                break
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt as error:
        if own is not None:
            wish_of(row, "pause")
            own.look()
        where = "The supervisor goes on with it" if own is None else "What is here is kept"
        raise CommandError(f"{where}: the same command follows.", returncode=INTERRUPTED) from error
    finally:
        shown.end()
        if own is not None:
            own.leave()
    if row.state != State.DONE:
        raise CommandError(harmless(row.error) or f"It was {row.state}.", returncode=FAILED)
    if own is not None:
        shelve(row.node, last_good())
    write(harmless(f"{row} is here."))


def _is_over(row: Download) -> bool:
    return (row.attempt <= row.tried and row.state in ENDED) or row.state == State.PAUSED


class _Shown:
    """A line that is written over and over in a terminal; elsewhere one for each tenth."""

    def __init__(self, write: Callable[..., object]) -> None:
        self._write = write
        self._is_terminal = sys.stdout.isatty()
        self._last = ""
        self._tenth = -1

    def show(self, row: Download) -> None:
        line = harmless(bar_of(row))
        if self._is_terminal:
            self._write(f"\r\x1b[K{line}", ending="")
            self._last = line
            return
        tenth = 10 * row.done // row.total if row.total else -1
        if tenth != self._tenth or (row.trouble and line != self._last):
            self._tenth, self._last = tenth, line
            self._write(line)

    def end(self) -> None:
        if self._is_terminal and self._last:
            self._write("")


def bar_of(row: Download) -> str:
    """Return a download as one line: its bar, bytes, speed and time left, or why it waits."""
    if not row.total:
        return row.trouble or f"{row}: asking the hub"
    full = BAR * row.done // row.total
    words = [f"[{'#' * full}{'·' * (BAR - full)}]", part_of(row.done, row.total)]
    if row.trouble:
        words.append(row.trouble)
    elif row.speed:
        words += [f"{size(row.speed)}/s", left((row.total - row.done) / row.speed)]
    return "  ".join(words)


def models_table() -> list[str]:
    """Return lines for a terminal: the models of all nodes."""
    rows = [
        (
            harmless(row.name),
            row.quantization,
            size(row.size),
            ", ".join(row.used_by),
            row.node,
            "unreadable" if row.problem else FITS[row.fits],
        )
        for row in ModelFile.objects.all()
    ]
    if not rows:
        return ["No model on disk. llama pull OWNER/REPOSITORY fetches one."]
    return aligned([("Model", "Quantization", "Size", "Used by", "Node", "Fits?"), *rows])


def models_json() -> str:
    """Return the same for programs, with paths and bytes."""
    columns = ("node", "path", "name", "architecture", "quantization", "parameters", "context", "size")
    said: list[dict[str, Any]] = [
        {name: getattr(row, name) for name in (*columns, "parts", "problem", "fits", "fit")}
        | {"usedBy": row.used_by}
        for row in ModelFile.objects.all()
    ]
    return json.dumps(said, indent=2)
