"""How long what gateways write is kept, and how much of it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from django.db.models import Q

from supervisor_app.gateway.edge import ledger, quarantine, retention
from supervisor_app.gateway.records.record import QuarantineEntry
from supervisor_app.traffic.models import QuarantinedRequest, RequestRecord
from tests.integration.building import make_record

pytestmark = pytest.mark.django_db

NOW = time.time()
ENTRY = QuarantineEntry(
    server="default", body_hash="ab" * 32, run_name="run 3", reason="It died.", at=NOW, until=NOW + 3600
)


def test_records_older_than_thirty_days_go(monkeypatch):
    day = 86400
    ledger.write([make_record(at=NOW - days * day) for days in (0, 29.9, 30.1, 31, 400)])
    monkeypatch.setattr(retention, "PRUNE_ROWS", 2)
    assert [retention.prune(NOW), retention.prune(NOW), retention.prune(NOW)] == [2, 1, 0]
    assert [round(NOW - row.at.timestamp()) for row in RequestRecord.objects.all()] == [0, round(29.9 * day)]


def test_records_may_be_kept_for_another_time():
    ledger.write([make_record(at=NOW - 86400)])
    assert retention.prune(NOW, days=2) == 0
    assert retention.prune(NOW, days=0.5) == 1


def test_beyond_so_many_rows_the_oldest_go_in_portions(monkeypatch):
    monkeypatch.setattr(retention, "KEEP_ROWS", 5)
    monkeypatch.setattr(retention, "CUT_ROWS", 3)
    assert not retention.cut()
    ledger.write([make_record(at=NOW + number) for number in range(12)])
    assert [retention.cut(), retention.cut(), retention.cut(), retention.cut()] == [True, True, False, False]
    kept = [round(row.at.timestamp() - NOW) for row in RequestRecord.objects.all()]
    assert kept == [11, 10, 9, 8, 7]


def test_beyond_so_many_in_quarantine_the_oldest_go(monkeypatch):
    monkeypatch.setattr(retention, "KEEP_QUARANTINED", 2)
    for name in "abcd":
        quarantine.put(replace(ENTRY, body_hash=name))
    retention.prune(NOW)
    assert sorted(row.body_hash for row in QuarantinedRequest.objects.all()) == ["c", "d"]


def spoken():
    """Names of requests of which there are words, or a head."""
    words = Q(captured_request__isnull=False) | Q(captured_answer_head__isnull=False)
    return [*RequestRecord.objects.filter(words).order_by("pk").values_list("model", flat=True)]


def test_words_are_kept_for_some_days_and_of_so_many_requests(monkeypatch):
    said = {"captured_request": "a", "captured_answer": "b", "captured_answer_head": "c"}
    week = retention.KEEP_WORDS_DAYS * 86400
    ledger.write(
        [
            make_record(at=NOW - week - 1, model="old", **said),
            make_record(at=NOW - week + 1, model="new", **said),
            make_record(at=NOW, model="wordless"),
            make_record(at=NOW, model="newer", **said),
        ]
    )
    retention.prune(NOW)
    assert spoken() == ["new", "newer"]
    monkeypatch.setattr(retention, "KEEP_WORDS", 1)
    retention.prune(NOW)
    assert spoken() == ["newer"]
    assert RequestRecord.objects.count() == 4


def test_entries_that_left_quarantine_are_pruned_too():
    quarantine.put(ENTRY)
    retention.prune(NOW + 3599)
    assert QuarantinedRequest.objects.exists()
    retention.prune(NOW + 3601)
    assert not QuarantinedRequest.objects.exists()
