"""The record of a request of which all takes as much room as it may."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

LONG_REQUEST = {
    "server": "default",
    "model": "m" * 100,
    "key": "chat UI",
    "method": "POST",
    "route": "/v1/chat/completions",
    "status": 200,
    "outcome": "replayed",
    "streamed": 0,
    "held_ms": 119_000,
    "ttft_ms": 599_000,
    "duration_ms": 9_840_000,
    "replays": 1,
    "prompt_tokens": 131_072,
    "cached_tokens": 131_000,
    "generated_tokens": 65_536,
    "tokens_per_second": 16_736.4,
    "incident": "",
    "request_id": "req_0123456789ab_123456",
    "captured_request": "asked" * 1000,
    "captured_answer": "answered" * 1000,
}
"""All of it takes as much room as it may."""


@pytest.fixture(scope="module")
def asked(serving):
    """A server with a record of that request, whose id it returns."""
    record = {"at": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}", **LONG_REQUEST}
    columns, values = ", ".join(record), ", ".join(map(repr, record.values()))
    serving.write(f"INSERT INTO supervisor_app_requestrecord ({columns}) VALUES ({values})")
    return serving.records("key = 'chat UI'")[0]["id"]
