"""A download over broken connections, onto a real disk, with a hub and a clock that are told what to do."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from supervisor_app.library.hub import part as part_module
from supervisor_app.library.hub.errors import BrokenError, HubError
from supervisor_app.library.hub.fetch import MOST_TRIES, Fetch, Job
from supervisor_app.library.hub.pace import Bound, Speed, backoff
from supervisor_app.library.hub.part import part_of_file
from supervisor_app.library.hub.repository import Remote
from tests.filesystems import small_filesystem

DATA = bytes(range(256)) * 40
FILE = Remote(path="sub/a.gguf", size=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())


class World:
    """A hub whose answers are scripted, and a clock that moves when somebody sleeps."""

    def __init__(self, directory):
        self.directory = directory
        self.now = 0.0
        self.slept = []
        self.breaks = []
        self.asked = []
        self.data = DATA
        self.knows_ranges = True
        self.reports = []
        self.bound = Bound(0, 0.0)

    @contextmanager
    def open(self, repository, commit, file, start):
        self.asked.append(start)
        begins = start if self.knows_ranges else 0
        end = self.breaks.pop(0) if self.breaks else None
        if end is not None and end < 0:
            raise BrokenError("the hub answered 503", wait=float(-end))
        yield begins, self._blocks(begins, end)

    def _blocks(self, start, end):
        for at in range(start, len(self.data), 1000):
            if end is not None and at >= end:
                raise BrokenError("the connection broke")
            yield self.data[at : at + 1000]

    def sleep(self, seconds):
        self.now += seconds
        self.slept.append(seconds)

    def run(self, *files):
        job = Job(repository="o/r", commit="c", files=files or (FILE,), directory=self.directory)
        Fetch(
            job,
            open_file=self.open,
            report=lambda **news: self.reports.append(SimpleNamespace(**news)),
            bound=self.bound,
            sleep=self.sleep,
            clock=lambda: self.now,
        ).run()

    @property
    def target(self):
        return self.directory / FILE.path


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "o" / "r")


def test_a_file_comes_whole_and_leaves_no_part(world):
    world.run()
    assert world.target.read_bytes() == DATA
    assert os.listdir(world.target.parent) == ["a.gguf"]
    assert (world.reports[-1].done, world.reports[-1].total) == (len(DATA), len(DATA))


def test_a_broken_connection_goes_on_where_it_broke(world):
    world.breaks = [3000, 7000]
    world.run()
    assert world.asked == [0, 3000, 7000]
    assert world.target.read_bytes() == DATA
    assert world.slept == [1.0, 1.0]
    assert "The connection broke: next try in 1 s." in [report.trouble for report in world.reports]


def test_a_hub_that_gives_nothing_is_asked_ever_more_rarely_and_given_up(world):
    world.breaks = [-1] * MOST_TRIES
    with pytest.raises(HubError, match="got nowhere in 10 tries: the hub answered 503"):
        world.run()
    assert world.slept == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_wait_that_the_hub_asks_for_is_kept(world):
    world.breaks = [-90]
    world.run()
    assert world.slept == [90.0]


def test_the_next_process_goes_on_with_what_the_last_one_left(world):
    world.target.parent.mkdir(parents=True)
    part_of_file(world.target).write_bytes(DATA[:5000])
    world.run()
    assert world.asked == [5000]
    assert world.target.read_bytes() == DATA


def test_a_part_that_is_whole_is_not_asked_for_again(world):
    world.target.parent.mkdir(parents=True)
    part_of_file(world.target).write_bytes(DATA)
    world.run()
    assert world.asked == []
    assert world.target.read_bytes() == DATA


def test_a_part_that_is_too_long_is_begun_anew(world):
    world.target.parent.mkdir(parents=True)
    part_of_file(world.target).write_bytes(DATA + b"more")
    world.run()
    assert world.asked == [0]
    assert world.target.read_bytes() == DATA


def test_a_hub_without_ranges_sends_all_of_it_again(world):
    world.knows_ranges, world.breaks = False, [3000]
    world.run()
    assert world.target.read_bytes() == DATA


def test_a_wrong_checksum_is_thrown_away(world):
    world.data = bytes(len(DATA))
    with pytest.raises(HubError, match="another checksum"):
        world.run()
    assert os.listdir(world.target.parent) == []


def test_a_part_from_something_else_is_found_by_the_checksum(world):
    world.target.parent.mkdir(parents=True)
    part_of_file(world.target).write_bytes(b"x" * 5000)
    with pytest.raises(HubError, match="another checksum"):
        world.run()
    world.run()
    assert world.target.read_bytes() == DATA


def test_a_hub_that_sends_too_much_is_not_believed(world):
    world.data = DATA + b"more"
    with pytest.raises(HubError, match="got nowhere"):
        world.run()
    assert not world.target.exists()


def test_a_file_that_is_here_is_left_alone(world):
    world.run()
    world.run(FILE, Remote(path="b.gguf", size=len(DATA), sha256=FILE.sha256))
    assert world.asked == [0, 0]
    assert world.reports[-1].done == 2 * len(DATA)


def test_a_disk_without_room_is_told_before_anything_is_asked(world, monkeypatch):
    disk = SimpleNamespace(f_bavail=1, f_frsize=4096)
    monkeypatch.setattr(part_module.os, "statvfs", lambda path: disk)
    with pytest.raises(HubError, match="has no room: 256 MiB more are needed"):
        world.run()
    assert world.asked == []


def test_a_disk_that_fills_up_meanwhile_is_noticed_before_it_is_full(world, monkeypatch):
    free = iter([10**12, 10**12, 0])
    monkeypatch.setattr(
        part_module.os, "statvfs", lambda path: SimpleNamespace(f_bavail=next(free), f_frsize=1)
    )
    world.bound = Bound(1000 / 6, 0.0)
    with pytest.raises(HubError, match="has no room"):
        world.run()
    assert 0 < part_of_file(world.target).stat().st_size < len(DATA)


def test_a_full_disk_keeps_the_part_and_the_next_try_goes_on(world, monkeypatch):
    write, left = os.pwrite, [4096]

    def cramped(descriptor, data, at):
        count = min(len(data), left[0])
        if count == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= count
        return write(descriptor, data[:count], at)

    monkeypatch.setattr(part_module.os, "pwrite", cramped)
    with pytest.raises(HubError, match=r"has no room: 6\.0 KiB more are needed.*kept.*retry"):
        world.run()
    assert part_of_file(world.target).read_bytes() == DATA[:4096]
    left[0] = 10**9
    world.run()
    assert world.asked == [0, 4096]
    assert world.target.read_bytes() == DATA


def test_two_processes_never_write_one_file(world, monkeypatch):
    world.target.parent.mkdir(parents=True)
    with part_of_file(world.target).open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(HubError, match="another process fetches the same file"):
            world.run()
    assert not world.target.exists()


def test_a_file_that_another_process_finished_meanwhile_is_taken(world):
    world.target.parent.mkdir(parents=True)
    other = part_of_file(world.target).open("wb")
    fcntl.flock(other, fcntl.LOCK_EX)

    def sleep(seconds):
        world.target.write_bytes(DATA)
        other.close()

    world.sleep = sleep
    world.run()
    assert world.asked == [0] or world.asked == []
    assert world.target.read_bytes() == DATA


def test_a_part_that_is_a_link_is_not_written_through(world, tmp_path):
    world.target.parent.mkdir(parents=True)
    part_of_file(world.target).symlink_to(tmp_path / "treasure")
    with pytest.raises(OSError, match="symbolic link"):
        world.run()
    assert not (tmp_path / "treasure").exists()


def test_a_job_with_a_path_that_leads_elsewhere_is_refused():
    with pytest.raises(HubError, match="is no name of a model's file"):
        Job.from_json(
            {"repository": "o/r", "commit": "c", "files": [["../a.gguf", 1, ""]], "directory": "/m"}
        )


def test_a_bound_makes_a_download_take_its_time(world):
    world.bound = Bound(2000, 0.0)
    world.run()
    assert sum(world.slept) == pytest.approx(len(DATA) / 2000, abs=1.1)


def test_a_bound_can_be_lifted():
    bound = Bound(100, 0.0)
    assert bound.pause(1000, 0.0) == 10.0
    bound.change(0)
    assert bound.pause(10**9, 1.0) == 0.0


def test_a_speed_is_that_of_the_last_seconds():
    speed = Speed()
    assert speed.note(0, 0.0) == 0.0
    assert speed.note(1000, 1.0) == 1000.0
    for second in range(2, 10):
        latest = speed.note(1000, float(second))
    assert latest == 0.0


def test_the_pauses_between_tries_double_up_to_a_minute():
    assert [backoff(number) for number in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_real_disk_that_is_full_keeps_what_fitted(tmp_path, monkeypatch):
    monkeypatch.setattr("supervisor_app.library.hub.fetch.check_room", lambda *_: None)  # else it looks first
    large = Remote(path="a.gguf", size=len(DATA) * 200, sha256=hashlib.sha256(DATA * 200).hexdigest())
    (tmp_path / "disk").mkdir()
    with small_filesystem(tmp_path / "disk", 1):
        world = World(tmp_path / "disk")
        world.data = DATA * 200
        with pytest.raises(HubError, match=r"The disk of .* has no room"):
            world.run(large)
        assert 0 < part_of_file(tmp_path / "disk" / "a.gguf").stat().st_size <= 2**20
        assert not (tmp_path / "disk" / "a.gguf").exists()
