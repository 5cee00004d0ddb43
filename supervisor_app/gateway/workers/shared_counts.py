"""The counts of several workers as one: each worker keeps a file, and whichever is scraped sums all files.

A worker sums its own file, too, not its memory: a number that was published once is in a file, so no worker
publishes less afterwards, even if others were killed in between. A worker that replaces another continues
the file of that one.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from supervisor_app.common.outage import Outage
from supervisor_app.gateway.records.counts import Counts, Occupancy, Series, add_load

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

SAVE_SECONDS = 1.0
"""Interval of saving: a worker that is killed loses the counts of that time."""
FRESH_SECONDS = 5.0
"""A worker whose file is older has nothing in flight: it was killed, or does not move."""


class SharedCounts:
    """`metrics.Shared`: one worker's file, `<number>.json`, in a directory of all. Safe in any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._outage = Outage(
            log, "⚠️ [GATEWAY] Metrics stand still: {reason}", "✅ [GATEWAY] Metrics move again"
        )
        self._read_last: dict[Path, Series] = {}
        """Numbers of each file when the file could be read last."""

    def own(self) -> Series:
        """Occupancy the counts of the worker before this one."""
        return _read(self._path)[0]

    def save(self, series: Series, load: Occupancy) -> None:
        """Replace the file, whole or not at all; `series` is read under the lock, so no older one wins."""
        with self._lock:
            told = {
                "at": monotonic(),  # the same clock in all processes
                "load": [(*labels, *numbers) for labels, numbers in load.items()],
                "counts": [(*labels, counts.as_json()) for labels, counts in list(series.items())],
            }
            try:
                new = self._path.with_suffix(".new")
                new.write_text(json.dumps(told))
                new.replace(self._path)
            except OSError as error:
                self._outage.failed(error)
            else:
                self._outage.over()

    def total(self) -> tuple[Series, Occupancy]:
        """Sum the files of all workers."""
        total: Series = {}
        total_load: Occupancy = {}
        # In the same order each time: sums of seconds, rounded otherwise, could be less than before.
        for path in sorted(self._path.parent.glob("*.json")):
            series, load = _read(path)
            # A file that cannot be read just now (no descriptor left) must not make a counter fall.
            series = self._read_last[path] = series or self._read_last.get(path, {})
            for labels, counts in series.items():
                total.setdefault(labels, Counts()).merge(counts)
            for where, (in_flight, held) in load.items():
                add_load(total_load, where, in_flight, held)
        return total, total_load

    def forget(self) -> None:
        """Remove the file once nobody sums it; the last worker removes the directory, too."""
        directory = self._path.parent
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
            if not any(directory.glob("*.json")):
                for file in directory.iterdir():  # the board and the files beside it
                    file.unlink()
                directory.rmdir()


def _read(path: Path) -> tuple[Series, Occupancy]:
    """Read one file; nothing if there is none, or if another version has written it."""
    try:
        told = json.loads(path.read_bytes())
        series = {(*labels,): Counts.from_json(counts) for *labels, counts in told["counts"]}
        load = {(server, model): (int(flying), int(held)) for server, model, flying, held in told["load"]}
        is_fresh = monotonic() - told["at"] < FRESH_SECONDS
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.debug("%s: %s", path, error)
        return {}, {}
    return series, load if is_fresh else {}
