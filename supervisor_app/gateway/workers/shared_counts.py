"""The counts of several workers as one. Each keeps its own in a file; who is scraped adds up all files.

Also its own: what was told once is in a file, so nobody tells less afterwards, whoever is scraped next and
whoever was killed in between. A worker that replaces another goes on with the file of that one.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from pathlib import Path
from threading import Lock
from time import monotonic

from supervisor_app.gateway.records.counts import Counts, Series

log = logging.getLogger(__name__)

SAVE_SECONDS = 1.0
"""What was counted since is lost with a worker that is killed."""
FRESH_SECONDS = 5.0
"""Who has said nothing for so long has nothing in flight: it was killed, or does not move."""
Load = dict[tuple[str, str], tuple[int, int]]
"""By server and model: requests in flight and requests held."""


def add(load: Load, where: tuple[str, str], in_flight: int, held: int) -> None:
    before = load.get(where, (0, 0))
    load[where] = (before[0] + in_flight, before[1] + held)


class SharedCounts:
    """One worker's file, `<number>.json`, in a directory of the workers. In any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._failing = False
        self._read_last: dict[Path, Series] = {}
        """The numbers of each file when it could be read last."""

    def own(self) -> Series:
        """What the worker before this one had counted."""
        return _read(self._path)[0]

    def save(self, series: Series, load: Load) -> None:
        """Whole or not at all, and never what is older: `series` is read when it is our turn."""
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
                if not self._failing:
                    log.warning("⚠️ [GATEWAY] Metrics stand still: %s", error)
                self._failing = True
            else:
                self._failing = False

    def total(self) -> tuple[Series, Load]:
        """Of all workers, as they saved it last."""
        total: Series = {}
        total_load: Load = {}
        # In the same order each time: sums of seconds, rounded otherwise, could be less than before.
        for path in sorted(self._path.parent.glob("*.json")):
            series, load = _read(path)
            # A file that cannot be read just now (no descriptor left) must not make a counter fall.
            series = self._read_last[path] = series or self._read_last.get(path, {})
            for labels, counts in series.items():
                total.setdefault(labels, Counts()).merge(counts)
            for where, (in_flight, held) in load.items():
                add(total_load, where, in_flight, held)
        return total, total_load

    def forget(self) -> None:
        """Nobody adds them up any more: the first process has gone, and the last worker clears up."""
        directory = self._path.parent
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
            if not any(directory.glob("*.json")):
                for file in directory.iterdir():  # what they shared besides
                    file.unlink()
                directory.rmdir()


def _read(path: Path) -> tuple[Series, Load]:
    """Nothing of what is no such file: another version may have written it, or nobody yet."""
    try:
        told = json.loads(path.read_bytes())
        series = {(*labels,): Counts.from_json(counts) for *labels, counts in told["counts"]}
        load = {(server, model): (int(flying), int(held)) for server, model, flying, held in told["load"]}
        is_fresh = monotonic() - told["at"] < FRESH_SECONDS
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.debug("%s: %s", path, error)
        return {}, {}
    return series, load if is_fresh else {}
