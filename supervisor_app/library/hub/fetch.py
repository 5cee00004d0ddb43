"""Fetch the files of a model one by one, over broken connections. Blocking; told its clock and its hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from supervisor_app.common.words import counted, span
from supervisor_app.library.hub.errors import BrokenError, HubError
from supervisor_app.library.hub.pace import Bound, Speed, backoff
from supervisor_app.library.hub.part import check_room, opened_part, part_of_file
from supervisor_app.library.hub.repository import Remote, is_safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from supervisor_app.library.hub.part import Part

MOST_TRIES = 10
"""Tries in a row without a byte, which take five minutes; after that a person looks."""
REPORT_SECONDS = 0.5
ROOM_SECONDS = 5.0
"""Interval between two looks at how full the disk is."""


class Open(Protocol):
    """Opens a file of a commit from a byte on: where it really begins, and its bytes."""

    def __call__(
        self, repository: str, commit: str, file: Remote, start: int
    ) -> AbstractContextManager[tuple[int, Iterator[bytes]]]: ...


class Report(Protocol):
    def __call__(self, *, done: int, total: int, speed: float, trouble: str) -> None:
        """Hear how far a download is; `trouble`: why it waits, as a sentence, or empty."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Files of a commit, for a directory."""

    repository: str
    commit: str
    files: tuple[Remote, ...]
    directory: Path

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Job:
        """Read a job. Raises HubError for a file name that leads elsewhere."""
        files = tuple(map(Remote.from_json, said["files"]))
        for file in files:
            if not is_safe(file.path):
                raise HubError(f"{file.path!r} is no name of a model's file.")
        return cls(
            repository=said["repository"],
            commit=said["commit"],
            files=files,
            directory=Path(said["directory"]),
        )

    def target(self, file: Remote) -> Path:
        """Return where a file belongs."""
        return self.directory / file.path


class Fetch:
    """A download."""

    def __init__(
        self,
        job: Job,
        *,
        open_file: Open,
        report: Report,
        bound: Bound,
        sleep: Callable[[float], object],
        clock: Callable[[], float],
    ) -> None:
        self._job = job
        self._open = open_file
        self._report = report
        self._bound = bound
        self._sleep = sleep
        self._clock = clock
        self._speed = Speed()
        self._total = sum(file.size for file in job.files)
        self._before = 0
        """Bytes of the files that are finished."""
        self._reported_at = self._looked_at = float("-inf")

    def run(self) -> None:
        """Fetch all files. Raises HubError, and OSError for a directory that cannot be written."""
        check_room(self._job.directory, self._total - self._here())
        for file in self._job.files:
            if not self._is_here(file):
                self._fetch(file)
            self._before += file.size
            self._tell(0, at_once=True)

    def _is_here(self, file: Remote) -> bool:
        """A file has its name only once it was compared with its checksum."""
        target = self._job.target(file)
        return target.is_file() and target.stat().st_size == file.size

    def _here(self) -> int:
        paths = [path for file in self._job.files for path in self._paths(file)]
        return sum(path.stat().st_size for path in paths if path.is_file())

    def _paths(self, file: Remote) -> tuple[Path, Path]:
        target = self._job.target(file)
        return target, part_of_file(target)

    def _fetch(self, file: Remote) -> None:
        tries, done = 0, -1
        while True:
            try:
                with opened_part(self._job.target(file), file) as part:
                    for count in part.take_up():
                        self._tell(count, trouble="Reading what is here already, for the checksum.")
                    while not part.is_whole:
                        try:
                            self._read(part, file)
                        except BrokenError as error:
                            tries = 1 if part.done > done else tries + 1
                            done = part.done
                            self._wait(error, tries, done)
                    part.finish()
                return
            except BrokenError as error:
                if self._is_here(file):  # by another process
                    return
                tries += 1
                self._wait(error, tries, max(0, done))

    def _read(self, part: Part, file: Remote) -> None:
        with self._open(self._job.repository, self._job.commit, file, part.done) as (start, blocks):
            if start == 0:  # of a hub without ranges
                part.begin_anew()
            elif start != part.done:
                raise BrokenError("the hub sent another part than was asked for")
            for block in blocks:
                part.write(block)
                self._tell(part.done)
                self._check_disk(file.size - part.done)
                if pause := self._bound.pause(len(block), self._clock()):
                    self._sleep(pause)
        if not part.is_whole:
            raise BrokenError("the connection ended early")

    def _wait(self, error: BrokenError, tries: int, done: int) -> None:
        if tries >= MOST_TRIES:
            raise HubError(
                f"The download got nowhere in {counted(tries, 'try', 'tries')}: {error}. What is here is "
                "kept: retry, and it goes on."
            ) from error
        pause = max(error.wait, backoff(tries))
        what = str(error)
        self._tell(done, trouble=f"{what[:1].upper()}{what[1:]}: next try in {span(pause)}.", at_once=True)
        self._sleep(pause)

    def _check_disk(self, needed: int) -> None:
        now = self._clock()
        if now >= self._looked_at + ROOM_SECONDS:
            self._looked_at = now
            check_room(self._job.directory, needed)

    def _tell(self, done: int, *, trouble: str = "", at_once: bool = False) -> None:
        now, all_done = self._clock(), self._before + done
        if at_once or now >= self._reported_at + REPORT_SECONDS:
            self._reported_at = now
            speed = 0.0 if trouble else self._speed.note(all_done, now)
            self._report(done=all_done, total=self._total, speed=speed, trouble=trouble)
