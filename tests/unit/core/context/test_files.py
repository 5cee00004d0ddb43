"""The folders of saved conversations stay within their bounds."""

from __future__ import annotations

import os

import pytest

from supervisor_app.core.context.rules import KEEP_SECONDS
from supervisor_app.core.machine import slot_files

NOW = 10 * KEEP_SECONDS


def saved(root, name, *, ago, size=100):
    folder = root / name
    folder.mkdir()
    (folder / "slot-0.bin").write_bytes(bytes(size))
    for each in (folder / "slot-0.bin", folder):
        os.utime(each, (NOW - ago, NOW - ago))
    return folder


def left(root):
    return sorted(folder.name for folder in root.iterdir() if any(folder.iterdir()))


def test_conversations_older_than_a_week_are_deleted(tmp_path):
    saved(tmp_path, "old", ago=KEEP_SECONDS + 1)
    saved(tmp_path, "young", ago=KEEP_SECONDS - 1)
    slot_files.prune(tmp_path, NOW)
    assert left(tmp_path) == ["young"]


def test_of_too_much_the_oldest_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(slot_files, "MOST_TOGETHER", 200)
    for age, name in enumerate(["newest", "middle", "oldest"]):
        saved(tmp_path, name, ago=age)
    slot_files.prune(tmp_path, NOW)
    assert left(tmp_path) == ["middle", "newest"]


def test_a_conversation_that_was_just_written_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(slot_files, "MOST_TOGETHER", 0)
    written = saved(tmp_path, "written", ago=5)
    saved(tmp_path, "other", ago=1)
    slot_files.prune(tmp_path, NOW, newest=written)
    assert left(tmp_path) == ["written"]


def test_without_any_folder_there_is_nothing_to_prune(tmp_path):
    slot_files.prune(tmp_path / "none", NOW)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("text", ["{}", "no json"])
def test_a_list_that_cannot_be_read_is_taken_away_and_counts_as_none(tmp_path, text):
    (tmp_path / slot_files.LIST).write_text(text)
    assert slot_files.take_list(tmp_path) is None
    assert not (tmp_path / slot_files.LIST).exists()
