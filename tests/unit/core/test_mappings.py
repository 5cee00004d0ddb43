"""Files that a process maps as data: of a /proc made of files, and of a real process."""

from __future__ import annotations

import mmap
import os
import sys

import pytest

from supervisor_app.core.machine import mappings
from supervisor_app.core.machine.mappings import mapped_bytes

KIB = 1024
LIBRARY = (
    "7f0000000000-7f0000200000 r--p 00000000 fe:00 11                 /usr/lib/libggml.so.0\nRss:  900 kB\n"
)
MODEL = "7f1000000000-7f1010000000 r--s 000c1000 fe:00 22                 /models/m.gguf\nSize: 9 kB\nRss: {} kB\n"
REST = (
    "7f2000000000-7f2000200000 rw-p 00000000 00:00 0 \nRss:  800 kB\n"
    "7f3000000000-7f3000200000 r--s 00000000 00:05 33                 /dev/shm/x\nRss:  700 kB\n"
    "7f4000000000-7f4000200000 r--s 00000000 00:01 44                 /memfd:x (deleted)\nRss:  600 kB\n"
    "7f5000000000-7f5000200000 rw-s 00000000 fe:00 55                 /tmp/y\nRss:  500 kB\n"
)


@pytest.fixture
def smaps(tmp_path, monkeypatch):
    """Write what the kernel tells of some processes, which are one family."""
    monkeypatch.setattr(mappings, "PROC", tmp_path)
    family = []
    monkeypatch.setattr(mappings, "family_of", lambda pid: family)

    def write(pid, text):
        family.append(pid)
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "smaps").write_text(text)

    return write


def test_pages_of_a_model_count_and_those_of_programs_and_shared_memory_do_not(smaps):
    smaps(7, LIBRARY + MODEL.format(300) + MODEL.format(200).replace("7f10", "7f60") + REST)
    assert mapped_bytes(7) == 500 * KIB


def test_a_model_that_a_child_maps_too_counts_once(smaps):
    smaps(7, MODEL.format(300))
    smaps(8, MODEL.format(400) + MODEL.format(10).replace(" 22 ", " 23 "))
    assert mapped_bytes(7) == 410 * KIB


def test_a_process_that_is_gone_has_none(smaps, tmp_path):
    smaps(7, MODEL.format(300))
    (tmp_path / "7" / "smaps").unlink()
    assert mapped_bytes(7) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_pages_that_this_process_has_read_of_a_mapped_file_are_seen(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"x" * 512 * KIB)
    before = mapped_bytes(os.getpid())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:: 4 * KIB].count(b"x") == 128
        assert mapped_bytes(os.getpid()) == before + 512 * KIB
