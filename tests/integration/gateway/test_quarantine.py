"""The quarantine that gateways share in the database."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from supervisor_app.gateway.edge import quarantine
from supervisor_app.gateway.records.record import QuarantineEntry
from supervisor_app.traffic.models import QuarantinedRequest

pytestmark = pytest.mark.django_db

NOW = time.time()
ENTRY = QuarantineEntry(
    server="default", body_hash="ab" * 32, run_name="run 3", reason="It died.", at=NOW, until=NOW + 3600
)


def test_quarantine_entries_are_loaded_until_their_time_is_over():
    quarantine.put(ENTRY)
    (loaded,) = quarantine.load(NOW)
    assert replace(loaded, at=0, until=0) == replace(ENTRY, at=0, until=0)
    assert loaded.until == pytest.approx(ENTRY.until, abs=0.001)
    assert quarantine.load(NOW + 3601) == []


def test_another_crash_renews_the_quarantine():
    quarantine.put(ENTRY)
    quarantine.put(replace(ENTRY, run_name="run 4", reason="Again.", until=NOW + 7200))
    quarantine.put(replace(ENTRY, server="other"))
    renewed, other = QuarantinedRequest.objects.order_by("server")
    assert (renewed.incident, renewed.reason) == ("run 4", "Again.")
    assert renewed.until.timestamp() == pytest.approx(NOW + 7200, abs=0.001)
    assert str(other) == "abababababab on other"
