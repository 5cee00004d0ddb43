"""Which request kills servers: suspicion after crashes, guilt only when alone."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.records.record import QuarantineEntry
from supervisor_app.gateway.servers.suspects import (
    MAX_DEATHS,
    MAX_QUARANTINED,
    Quarantine,
    Suspicion,
    Verdict,
    hash_of,
)

NOW = 1_750_000_000.0


def entry(body_hash="a", until=NOW + 60):
    return QuarantineEntry(
        server="default", body_hash=body_hash, run_name="7", reason="It crashed.", at=NOW, until=until
    )


def verdicts(*deaths):
    """What becomes of a request after each death: `blameless`, `crowded` or `alone`."""
    suspicion = Suspicion()
    return [suspicion.died(blameless=death == "blameless", alone=death == "alone") for death in deaths]


def test_a_suspect_is_tried_again_after_one_crash_and_alone_after_two():
    assert verdicts("crowded", "crowded") == [Verdict.AGAIN, Verdict.ALONE]


def test_a_request_that_was_alone_in_its_third_crash_is_guilty():
    assert verdicts("crowded", "crowded", "alone")[-1] is Verdict.QUARANTINE
    assert verdicts("alone", "alone", "alone") == [Verdict.AGAIN, Verdict.ALONE, Verdict.QUARANTINE]


def test_a_request_that_is_never_alone_is_never_guilty():
    assert Verdict.QUARANTINE not in verdicts(*["crowded"] * 20)


def test_ends_from_outside_make_nobody_a_suspect():
    assert verdicts(*["blameless"] * (MAX_DEATHS - 1)) == [Verdict.AGAIN] * (MAX_DEATHS - 1)
    assert verdicts("crowded", "blameless", "blameless")[-1] is Verdict.AGAIN


def test_a_suspect_stays_alone_after_an_end_from_outside():
    assert verdicts("crowded", "crowded", "blameless")[-1] is Verdict.ALONE


@pytest.mark.parametrize("death", ["blameless", "crowded"])
def test_a_request_is_not_sent_again_after_so_many_deaths(death):
    assert verdicts(*[death] * MAX_DEATHS)[-1] is Verdict.ENOUGH


def test_a_quarantined_request_is_found_until_its_time_is_up():
    quarantine = Quarantine()
    quarantine.add(entry())
    assert len(quarantine.entries) == 1
    assert quarantine.find("a", NOW) == entry()
    assert quarantine.find("b", NOW) is None
    assert quarantine.find("a", NOW + 60) is None


def test_entries_of_all_gateways_replace_those_of_one():
    quarantine = Quarantine()
    quarantine.add(entry("a"))
    quarantine.replace([entry("b")])
    assert quarantine.find("a", NOW) is None
    assert quarantine.find("b", NOW) == entry("b")


def test_quarantine_is_bounded_and_the_oldest_goes_first():
    quarantine = Quarantine()
    for number in range(MAX_QUARANTINED + 1):
        quarantine.add(entry(str(number)))
    assert len(quarantine.entries) == MAX_QUARANTINED
    assert quarantine.find("0", NOW) is None
    assert quarantine.find("1", NOW)


def test_a_request_is_the_same_by_path_and_body():
    assert hash_of("/v1/completions", b"a") == hash_of("/v1/completions", b"a")
    others = {
        hash_of("/v1/completions", b"b"),
        hash_of("/completion", b"a"),
        hash_of("/v1/completionsa", b""),
    }
    assert len(others | {hash_of("/v1/completions", b"a")}) == 4


def test_a_hash_is_what_the_database_holds():
    assert len(hash_of("/v1/chat/completions" * 9, b"x" * 10**6)) == 64
    assert int(hash_of("/", b""), 16)
