"""The memory that workers share: its rows, its lock, and what becomes of who is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from time import sleep

import pytest

from supervisor_app.gateway.workers import board as module
from supervisor_app.gateway.workers.board import HEAD, MAX_KEYS, STALE_SECONDS, Board
from tests.unit.gateway.boards import BEGIN, boards

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path):
    """Of a board for three."""
    Board.create(tmp_path / "board", 3)
    return tmp_path / "board"


@pytest.fixture
def three(tmp_path):
    with boards(tmp_path, 3) as found:
        yield found


def begin_server(board, key=7):
    """Its row, and the cell of this worker in it."""
    row = board.servers.row_of(key)
    return row, board.servers.told(row, board.column)


# --- The file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", [-1, 3, 400])
def test_a_board_has_no_room_for_more_workers_than_it_was_made_for(path, column):
    with pytest.raises(ValueError, match=f"is no board for a worker {column + 1}"):
        Board(path, column, BEGIN)


@pytest.mark.parametrize("size", [0, 1, 8, 4096, 4099])
def test_a_file_that_was_not_written_to_its_end_is_no_board(path, size):
    os.truncate(path, size)
    with pytest.raises(ValueError, match=r"board|empty"):
        Board(path, 0, BEGIN)


def test_a_file_that_is_not_there_is_no_board(tmp_path):
    with pytest.raises(FileNotFoundError):
        Board(tmp_path / "board", 0, BEGIN)


# --- Rows ----------------------------------------------------------------------------------------------


def test_all_find_the_same_row_by_its_key(three):
    rows = [board.keys.row_of(42) for board in three]
    assert len(set(rows)) == 1
    assert three[0].keys.row_of(43) not in rows


def test_rows_have_their_cells_for_themselves(three):
    board = three[0]
    firsts = [cell for key in (1, 2, 3) for cell in [board.servers.row_of(key)]]
    told = [board.servers.told(row, column) for row in firsts for column in range(3)]
    assert len({*firsts, *told}) == 12
    assert min(told) > max(range(HEAD + 3))


def test_when_all_rows_are_taken_there_is_none_until_one_is_freed(three):
    board, other, _ = three
    rows = [board.keys.row_of(key) for key in range(1, MAX_KEYS + 1)]
    assert None not in rows
    assert other.keys.row_of(MAX_KEYS + 1) is None
    board.numbers[board.keys.told(rows[5], 0)] = 3
    board.keys.free(rows[5])
    assert other.keys.row_of(MAX_KEYS + 1) == rows[5]
    assert board.numbers[board.keys.told(rows[5], 0)] == 0


# --- Who is gone ---------------------------------------------------------------------------------------


def test_a_worker_that_was_not_heard_of_for_a_while_counts_as_empty(three):
    first, second, killed = three
    _, cell = begin_server(killed)
    killed.numbers[cell] = 4
    second.sweep(BEGIN + STALE_SECONDS * 0.9)
    assert first.numbers[cell] == 4
    second.sweep(BEGIN + STALE_SECONDS * 1.1)
    assert first.numbers[cell] == 0


def test_a_busy_worker_still_reports_that_it_runs(three):
    first, second, _ = three
    _, cell = begin_server(second)
    second.numbers[cell] = 4
    for tenth in range(1, 40):
        first.sweep(BEGIN + tenth / 10)
        second.sweep(BEGIN + tenth / 10)
    assert first.numbers[cell] == 4


@pytest.mark.parametrize("how", ["killed", "closed"])
def test_a_worker_that_replaces_another_begins_with_an_empty_column(path, how):
    before = Board(path, 1, BEGIN)
    _, cell = begin_server(before)
    before.numbers[cell] = 4
    if how == "closed":
        before.close()
    with closing(Board(path, 1, BEGIN + 0.1)) as after:
        assert after.numbers[cell] == 0
    if how == "killed":
        before.close()


# --- The lock ------------------------------------------------------------------------------------------


def test_only_one_has_the_lock(three):
    first, second, _ = three
    assert first.lock()
    assert not second.lock()
    first.unlock()
    assert second.lock()


def test_a_worker_that_cannot_have_the_lock_goes_on_without_it(three):
    first, second, third = three
    assert first.lock()
    with second.locked():
        pass
    assert not third.lock()


def test_a_worker_that_was_stopped_with_the_lock_is_not_waited_for(three, monkeypatch):
    first, second, _ = three
    assert first.lock()
    assert not second.lock()
    monkeypatch.setattr(module, "STALE_SECONDS", 0.0)
    assert second.lock()


def test_the_next_holder_of_a_lock_is_respected_after_a_stale_one(three, monkeypatch):
    first, second, _ = three
    monkeypatch.setattr(module, "STALE_SECONDS", 0.05)
    assert first.lock()
    assert not second.lock()
    first.unlock()
    second.sweep(BEGIN)
    sleep(0.06)
    assert first.lock()
    assert not second.lock()


def test_the_lock_of_one_that_is_killed_is_free(path):
    code = (
        "import os, signal, sys; from pathlib import Path; from supervisor_app.gateway.workers.board import Board\n"
        "Board(Path(sys.argv[1]), 0, 0.0).lock() and os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    with closing(Board(path, 1, BEGIN)) as other:
        assert other.lock()
