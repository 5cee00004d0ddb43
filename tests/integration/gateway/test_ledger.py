"""What the gateways keep in the database."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db.models import Q
from django.utils import timezone

from supervisor_app.gateway.access.keys import KeyPolicy
from supervisor_app.gateway.edge import ledger
from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.records.record import Outcome, QuarantineEntry, Record
from supervisor_app.traffic.models import ApiKey, QuarantinedRequest, RequestRecord
from tests.integration.building import STARTED, at, make_key, make_record, make_server

pytestmark = pytest.mark.django_db

NOW = time.time()
ENTRY = QuarantineEntry(
    server="default", body_hash="ab" * 32, run_name="run 3", reason="It died.", at=NOW, until=NOW + 3600
)


# --- Keys ----------------------------------------------------------------------------------------------


def test_a_key_is_loaded_with_all_that_limits_it():
    expires = timezone.now() + timedelta(days=1)
    key = make_key(
        enabled=False,
        expires_at=expires,
        allowed_models=["a", "b"],
        requests_per_minute=1,
        tokens_per_minute=2,
        max_concurrent=3,
        capture=True,
    )
    assert ledger.load_keys() == [
        KeyPolicy(
            id=key.pk,
            name="chat",
            digest=bytes.fromhex(key.digest),
            enabled=False,
            expires_at=expires.timestamp(),
            models=frozenset({"a", "b"}),
            requests_per_minute=1,
            tokens_per_minute=2,
            max_concurrent=3,
            capture=True,
        )
    ]


@pytest.mark.parametrize(
    ("rights", "scopes"),
    [
        ({}, {"inference"}),
        ({"may_read": True}, {"inference", "read"}),
        ({"may_change": True}, {"inference", "read", "change"}),
    ],
)
def test_a_key_may_ask_models_and_what_else_it_says(rights, scopes):
    make_key(**rights)
    (policy,) = ledger.load_keys()
    assert policy.scopes == scopes


def test_a_key_is_limited_to_the_endpoints_of_its_row():
    make_key(allowed_families=["chat", "models"])
    (policy,) = ledger.load_keys()
    assert policy.families == {"chat", "models"}


def test_a_key_without_an_end_never_expires():
    make_key()
    (policy,) = ledger.load_keys()
    assert (policy.expires_at, policy.models) == (None, frozenset())


# --- Records -------------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was():
    key = make_key()
    record = Record(
        at=STARTED,
        server="default",
        model="qwen3",
        key=key.pk,
        method="POST",
        route="/v1/chat/completions",
        status=200,
        outcome=Outcome.REPLAYED,
        streamed=True,
        held_ms=1.5,
        room_ms=0.5,
        load_ms=0.75,
        ttft_ms=2.5,
        duration_ms=3.5,
        replays=1,
        usage=Usage(4, 5, 6, tokens_per_second=7.5, drafted_tokens=8, accepted_tokens=9),
        id="req_a_1",
        run_name="run 3",
        captured_request="asked",
        captured_answer="answered",
        captured_request_head="POST / HTTP/1.1\r\nHost: here\r\n",
        captured_answer_head="HTTP/1.1 200 OK\r\nSet-Cookie: a\r\n\r\n",
    )
    ledger.write([record])
    (row,) = RequestRecord.objects.values()
    assert row == {
        "id": row["id"],
        "at": at(STARTED),
        "server": "default",
        "model": "qwen3",
        "key": "chat",
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "outcome": "replayed",
        "streamed": True,
        "held_ms": 1.5,
        "room_ms": 0.5,
        "load_ms": 0.75,
        "ttft_ms": 2.5,
        "duration_ms": 3.5,
        "replays": 1,
        "prompt_tokens": 4,
        "cached_tokens": 5,
        "generated_tokens": 6,
        "tokens_per_second": 7.5,
        "drafted_tokens": 8,
        "accepted_tokens": 9,
        "incident": "run 3",
        "captured_request": "asked",
        "captured_answer": "answered",
        "captured_request_head": "POST / HTTP/1.1\nHost: here",
        "captured_answer_head": "HTTP/1.1 200 OK\nSet-Cookie: [redacted]",
        "request_id": "req_a_1",
    }


def test_unknown_fields_of_a_record_stay_absent():
    ledger.write([make_record(status=0)])
    row = RequestRecord.objects.get()
    assert row.key == ""
    absent = ["status", "ttft_ms", "prompt_tokens", "cached_tokens", "generated_tokens"]
    absent += ["tokens_per_second", "captured_request", "captured_answer"]
    assert [getattr(row, name) for name in absent] == [None] * len(absent)


def test_text_that_no_database_would_take_is_cut():
    long = "m" * 1000
    ledger.write(
        [make_record(model=f"a\0\ud800{long}", route=f"/{long}", method=long, captured_request="\0x")]
    )
    row = RequestRecord.objects.get()
    assert (len(row.route), len(row.method), row.captured_request) == (200, 10, "x")
    assert row.model.startswith("a?mm")


def test_the_newest_use_of_each_key_in_a_batch_is_kept():
    old, new, idle = make_key("old", last_used_at=at(STARTED + 60)), make_key("new"), make_key("idle")
    used = [(old, 10), (new, 10), (new, 30), (new, 20)]
    ledger.write([make_record(at=STARTED + second, key=key.pk) for key, second in used])
    assert dict(ApiKey.objects.values_list("name", "last_used_at")) == {
        old.name: at(STARTED + 60),
        new.name: at(STARTED + 30),
        idle.name: None,
    }


def test_a_key_that_was_deleted_meanwhile_is_told_by_its_number():
    ledger.write([make_record(key=4711)])
    assert RequestRecord.objects.get().key == "deleted key 4711"


def test_records_outlive_their_server_and_their_key():
    server, key = make_server(), make_key()
    ledger.write([make_record(key=key.pk)])
    server.delete()
    key.delete()
    row = RequestRecord.objects.get()
    assert (row.server, row.key) == ("default", "chat")
    assert str(row).startswith("POST /v1/chat/completions, 2025-06-15")


def test_a_full_batch_is_written(django_assert_max_num_queries):
    with django_assert_max_num_queries(5):
        ledger.write([make_record(at=STARTED + second) for second in range(ledger.WRITE_ROWS)])
    assert RequestRecord.objects.count() == ledger.WRITE_ROWS


# --- Pruning -------------------------------------------------------------------------------------------


def test_records_older_than_thirty_days_go(monkeypatch):
    day = 86400
    ledger.write([make_record(at=NOW - days * day) for days in (0, 29.9, 30.1, 31, 400)])
    monkeypatch.setattr(ledger, "PRUNE_ROWS", 2)
    assert [ledger.prune(NOW), ledger.prune(NOW), ledger.prune(NOW)] == [2, 1, 0]
    assert [round(NOW - row.at.timestamp()) for row in RequestRecord.objects.all()] == [0, round(29.9 * day)]


def test_records_may_be_kept_for_another_time():
    ledger.write([make_record(at=NOW - 86400)])
    assert ledger.prune(NOW, days=2) == 0
    assert ledger.prune(NOW, days=0.5) == 1


def test_beyond_so_many_rows_the_oldest_go_in_portions(monkeypatch):
    monkeypatch.setattr(ledger, "KEEP_ROWS", 5)
    monkeypatch.setattr(ledger, "CUT_ROWS", 3)
    assert not ledger.cut()
    ledger.write([make_record(at=NOW + number) for number in range(12)])
    assert [ledger.cut(), ledger.cut(), ledger.cut(), ledger.cut()] == [True, True, False, False]
    kept = [round(row.at.timestamp() - NOW) for row in RequestRecord.objects.all()]
    assert kept == [11, 10, 9, 8, 7]


def test_beyond_so_many_in_quarantine_the_oldest_go(monkeypatch):
    monkeypatch.setattr(ledger, "KEEP_QUARANTINED", 2)
    for name in "abcd":
        ledger.quarantine(replace(ENTRY, body_hash=name))
    ledger.prune(NOW)
    assert sorted(row.body_hash for row in QuarantinedRequest.objects.all()) == ["c", "d"]


def spoken():
    """Names of requests of which there are words, or a head."""
    words = Q(captured_request__isnull=False) | Q(captured_answer_head__isnull=False)
    return [*RequestRecord.objects.filter(words).order_by("pk").values_list("model", flat=True)]


def test_words_are_kept_for_some_days_and_of_so_many_requests(monkeypatch):
    said = {"captured_request": "a", "captured_answer": "b", "captured_answer_head": "c"}
    week = ledger.KEEP_WORDS_DAYS * 86400
    ledger.write(
        [
            make_record(at=NOW - week - 1, model="old", **said),
            make_record(at=NOW - week + 1, model="new", **said),
            make_record(at=NOW, model="wordless"),
            make_record(at=NOW, model="newer", **said),
        ]
    )
    ledger.prune(NOW)
    assert spoken() == ["new", "newer"]
    monkeypatch.setattr(ledger, "KEEP_WORDS", 1)
    ledger.prune(NOW)
    assert spoken() == ["newer"]
    assert RequestRecord.objects.count() == 4


def test_entries_that_left_quarantine_are_pruned_too():
    ledger.quarantine(ENTRY)
    ledger.prune(NOW + 3599)
    assert QuarantinedRequest.objects.exists()
    ledger.prune(NOW + 3601)
    assert not QuarantinedRequest.objects.exists()


# --- Quarantine ----------------------------------------------------------------------------------------


def test_quarantine_entries_are_loaded_until_their_time_is_over():
    ledger.quarantine(ENTRY)
    (loaded,) = ledger.load_quarantine(NOW)
    assert replace(loaded, at=0, until=0) == replace(ENTRY, at=0, until=0)
    assert loaded.until == pytest.approx(ENTRY.until, abs=0.001)
    assert ledger.load_quarantine(NOW + 3601) == []


def test_another_crash_renews_the_quarantine():
    ledger.quarantine(ENTRY)
    ledger.quarantine(replace(ENTRY, run_name="run 4", reason="Again.", until=NOW + 7200))
    ledger.quarantine(replace(ENTRY, server="other"))
    renewed, other = QuarantinedRequest.objects.order_by("server")
    assert (renewed.incident, renewed.reason) == ("run 4", "Again.")
    assert renewed.until.timestamp() == pytest.approx(NOW + 7200, abs=0.001)
    assert str(other) == "abababababab on other"
