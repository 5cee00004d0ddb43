"""Records that gateways keep of requests that are over."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.edge import ledger
from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.records.record import Outcome, Record
from supervisor_app.traffic.models import ApiKey, RequestRecord
from tests.integration.building import STARTED, at, make_key, make_record, make_server

pytestmark = pytest.mark.django_db


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
