"""A key with several requests that killed servers is paused, whoever knows of them."""

from __future__ import annotations

from dataclasses import replace

from supervisor_app.gateway.records.record import QuarantineEntry
from supervisor_app.gateway.servers.suspects import (
    KILLERS_UNTIL_PAUSE,
    PAUSE_SECONDS,
    Keys,
    Quarantine,
    Suspicion,
    Verdict,
    hash_of,
    hash_of_key,
)
from supervisor_app.gateway.workers.shared_suspects import SharedQuarantine, SharedSuspects
from tests.unit.gateway.boards import boards

NOW = 1_750_000_000.0
DIED = (("default", 11), ("default", 12))


def entries(number=KILLERS_UNTIL_PAUSE, key=7):
    return [
        QuarantineEntry(
            server="default",
            body_hash=f"{key} {each}",
            run_name="7",
            reason="It crashed.",
            at=NOW - each,
            until=NOW + 3600,
            key=key,
            deaths=DIED,
        )
        for each in range(number)
    ]


def quarantine(*found):
    quarantine = Quarantine()
    for entry in found:
        quarantine.add(entry)
    return quarantine


def test_several_deadly_requests_pause_a_key_for_a_while_after_the_latest():
    paused = quarantine(*entries())
    assert paused.paused_until(7, NOW) == NOW + PAUSE_SECONDS
    assert paused.paused_until(7, NOW + PAUSE_SECONDS) is None


def test_fewer_deadly_requests_and_those_of_other_keys_pause_no_key():
    paused = quarantine(*entries(KILLERS_UNTIL_PAUSE - 1), *entries(1, key=8), *entries(key=None))
    assert paused.paused_until(7, NOW) is None


def test_releasing_an_entry_ends_the_pause():
    paused = quarantine(*entries())
    assert paused.paused_until(7, NOW)
    paused.replace(entries()[1:])
    assert paused.paused_until(7, NOW) is None


def test_all_workers_pause_a_key(tmp_path):
    with boards(tmp_path) as (one, other):
        here, there = SharedQuarantine(one), SharedQuarantine(other)
        for entry in entries():
            here.add(entry)
        there.refresh()
        assert there.paused_until(7, NOW) == NOW + PAUSE_SECONDS
        assert {entry.deaths for entry in there.entries.values()} == {DIED}


def test_all_workers_know_what_a_suspect_may_have_killed(tmp_path):
    with boards(tmp_path) as (one, other):
        here, there = SharedSuspects(one), SharedSuspects(other)
        suspicion = Suspicion()
        for server, pid in DIED:
            suspicion.died(blameless=False, alone=True, server=server, pid=pid)
        here.note("a", suspicion, NOW)
        for _ in range(2):
            there.refresh()
            there.note("b", Suspicion(), NOW)
            here.refresh()
        assert there.find("a", NOW).killed == [*DIED]
        assert here.find("a", NOW).killed == [*DIED]


def test_a_process_dies_of_a_request_once_however_often_that_was_sent():
    suspicion = Suspicion()
    verdicts = [suspicion.died(blameless=False, alone=True, server="a", pid=pid) for pid in (1, 1, 2, 2, 3)]
    assert verdicts == [Verdict.AGAIN, Verdict.AGAIN, Verdict.ALONE, Verdict.ALONE, Verdict.QUARANTINE]


def test_an_entry_without_a_key_is_known_by_path_and_body_alone():
    assert hash_of("/completion", b"a") != hash_of("/completion", b"a", 1) != hash_of("/completion", b"a", 2)
    assert replace(entries(1)[0], key=None, deaths=()).deaths == ()


def test_crashes_with_one_key_alone_in_flight_are_counted_for_an_hour_and_once_each():
    keys = Keys()
    assert keys.crashed(7, "a", 1, NOW) == ()
    assert [keys.crashed(7, "a", pid, NOW + 10) for pid in (2, 2, 3)] == [(), (), ()]
    assert keys.crashed(8, "a", 4, NOW + 10) == ()
    assert keys.crashed(7, "a", 4, NOW + 3601) == ()  # the first one is too long ago
    assert keys.crashed(7, "b", 4, NOW + 3602) == (("a", 2), ("a", 3), ("a", 4), ("b", 4))
    assert keys.crashed(7, "a", 5, NOW + 3603) == ()


def test_deaths_by_a_guilty_request_are_not_held_against_its_key():
    keys = Keys()
    for pid in (1, 2, 3):
        keys.crashed(7, "a", pid, NOW)
    keys.explained(7, [("a", 1), ("a", 2), ("a", 9)])
    keys.explained(8, [("a", 3)])
    assert keys.crashed(7, "a", 4, NOW) == ()


def test_a_key_in_quarantine_is_paused():
    entry = replace(entries(1)[0], body_hash=hash_of_key(7))
    assert quarantine(entry).paused_until(7, NOW) == NOW + PAUSE_SECONDS
