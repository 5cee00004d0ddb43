"""What workers think of requests: what one has seen, the others know."""

from __future__ import annotations

from contextlib import closing

import pytest

from supervisor_app.gateway.servers.suspects import QUARANTINE_SECONDS, Suspicion
from supervisor_app.gateway.workers import shared_suspects as module
from supervisor_app.gateway.workers.board import Board
from supervisor_app.gateway.workers.shared_suspects import SharedQuarantine, SharedSuspects
from tests.unit.gateway.boards import BEGIN, boards
from tests.unit.gateway.test_suspects import NOW, entry


@pytest.fixture
def two(tmp_path):
    with boards(tmp_path) as found:
        yield [SharedSuspects(board) for board in found]


def known(suspects, body_hash="poison", now=NOW):
    """Crashes and deaths."""
    suspects.refresh()
    suspicion = suspects.find(body_hash, now)
    return suspicion and (suspicion.crashes, suspicion.deaths)


def test_a_suspicion_of_one_worker_is_known_to_the_other(two):
    a, b = two
    a.note("poison", Suspicion(crashes=1, deaths=2), NOW)
    assert known(b) == (1, 2)
    assert known(b, "water") is None
    assert known(b, now=NOW + QUARANTINE_SECONDS) is None


def test_the_other_counts_on_from_there(two):
    a, b = two
    a.note("poison", Suspicion(crashes=1, deaths=1), NOW)
    b.refresh()
    suspicion = b.find("poison", NOW)
    suspicion.died(blameless=False, alone=False)
    b.note("poison", suspicion, NOW)
    assert known(a) == (2, 2)
    assert a.find("poison", NOW).goes_alone


def test_suspicions_of_several_workers_are_kept_together(two):
    a, b = two
    a.note("one", Suspicion(crashes=1), NOW)
    b.note("other", Suspicion(crashes=2), NOW)
    for suspects in two:
        assert (known(suspects, "one"), known(suspects, "other")) == ((1, 0), (2, 0))


def test_a_request_that_one_worker_clears_is_suspected_by_none(two):
    a, b = two
    a.note("poison", Suspicion(crashes=1), NOW)
    b.acquit("poison")
    assert known(a) is None
    assert known(b) is None


def test_clearing_a_request_without_suspicion_is_no_news(two):
    a, _ = two
    before = a.file.board.generation
    a.acquit("water")
    assert a.file.board.generation == before


def test_a_request_that_goes_on_keeps_what_it_has_seen_itself(two):
    a, b = two
    seen = Suspicion(crashes=1)
    a.note("poison", seen, NOW)
    seen.crashes = 2  # its next crash is not noted yet
    b.note("other", Suspicion(crashes=1), NOW)
    assert known(a) == (2, 0)
    assert a.find("poison", NOW) is seen


def test_a_worker_that_replaces_another_knows_the_suspects(two):
    a, _ = two
    a.note("poison", Suspicion(crashes=2), NOW)
    with closing(Board(a.file.board.path, 1, BEGIN)) as board:
        assert known(SharedSuspects(board)) == (2, 0)


def test_nothing_is_read_while_nothing_is_new(two, caplog):
    a, b = two
    a.note("poison", Suspicion(crashes=1), NOW)
    b.refresh()
    a.file.path.write_text("{}")
    assert known(b) == (1, 0)
    assert not caplog.messages


def test_a_suspicion_that_cannot_be_written_is_told_and_known_to_one(two, caplog):
    a, b = two
    a.file.path.with_suffix(".new").mkdir()
    a.note("poison", Suspicion(crashes=1), NOW)
    assert (known(a), known(b)) == ((1, 0), None)
    assert "is not known to others" in caplog.text


@pytest.mark.parametrize("content", [b"", b"{"])
def test_an_unreadable_file_is_told_and_changes_nothing(two, content, caplog):
    a, b = two
    b.note("mine", Suspicion(crashes=1), NOW)
    a.note("poison", Suspicion(crashes=1), NOW)
    a.file.path.write_bytes(content)
    assert (known(b, "mine"), known(b)) == ((1, 0), None)
    assert "is not known here" in caplog.text


# --- Quarantine ----------------------------------------------------------------------------------------


@pytest.fixture
def courts(tmp_path):
    """Two workers' quarantines."""
    with boards(tmp_path) as found:
        yield [SharedQuarantine(board) for board in found]


def refused(quarantine, body_hash="a"):
    quarantine.refresh()
    return quarantine.find(body_hash, NOW) is not None


def test_a_request_found_guilty_by_one_worker_is_refused_by_the_other(courts):
    a, b = courts
    a.add(entry("a"))
    b.add(entry("b"))
    assert [refused(each, body_hash) for each in courts for body_hash in "ab"] == [True] * 4


def test_an_entry_of_another_worker_lasts_until_the_database_knows(courts):
    a, b = courts
    a.add(entry())
    b.refresh()
    b.replace([entry("older")])
    assert refused(b)
    b.replace([entry("older"), entry()])
    assert refused(b)
    b.replace([entry("older")])  # somebody has released it
    b.add(entry("newer"))
    a.add(entry("newest"))
    assert not refused(b)


def test_an_entry_released_before_a_worker_began_is_released(courts):
    a, _ = courts
    a.add(entry())
    with closing(Board(a.file.board.path, 1, BEGIN)) as board:
        begun = SharedQuarantine(board)
        assert not refused(begun)
        a.add(entry("another"))
        assert (refused(begun), refused(begun, "another")) == (False, True)


def test_only_the_last_sentences_are_told(courts, monkeypatch):
    monkeypatch.setattr(module, "MAX_TOLD", 2)
    a, b = courts
    for body_hash in "abc":
        a.add(entry(body_hash))
    assert [refused(b, body_hash) for body_hash in "abc"] == [False, True, True]
