"""What is kept of the past, and what is deleted, a few rows at a time."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from supervisor_app.alerts.models import AlertChannel, Delivery, Incident
from supervisor_app.alerts.retention import ALERTS_KEPT
from supervisor_app.core.changes import RunClosed, RunOpened
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import FailureKind
from supervisor_app.fleet import retention
from supervisor_app.fleet.audit import KEPT
from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.lease import Lease
from supervisor_app.fleet.models import AuditEntry, Run
from supervisor_app.fleet.retention import BATCH, RUNS_KEPT
from supervisor_app.fleet.store import OrmStore, _save
from supervisor_app.roles.store_hooks import STORE_HOOKS
from tests.integration.building import STARTED, at, change, db, make_run, make_server

pytestmark = pytest.mark.django_db

NOW = timezone.now()
OLD, YOUNG = NOW - ALERTS_KEPT - timedelta(minutes=1), NOW - ALERTS_KEPT + timedelta(minutes=1)


@pytest.fixture
def few(monkeypatch):
    """Three runs are kept, two rows deleted in one go."""
    monkeypatch.setattr(retention, "RUNS_KEPT", 3)
    monkeypatch.setattr(retention, "BATCH", 2)


def prune_all(node="local") -> int:
    """Prune until nothing is left to delete, and return how often there was something."""
    times = 0
    while retention.prune(node, NOW) or STORE_HOOKS.prune(NOW):
        times += 1
    return times


def runs(server, count, **fields) -> list[int]:
    """Oldest first."""
    return [make_run(server, **fields).pk for _ in range(count)]


def left() -> set[int]:
    return set(Run.objects.values_list("pk", flat=True))


# --- Acts ----------------------------------------------------------------------------------------------


def test_an_act_goes_after_a_year(few):
    for moment in (NOW - KEPT - timedelta(minutes=1), NOW - KEPT + timedelta(minutes=1)):
        AuditEntry.objects.create(at=moment, actor="ann", door="page", action="stop", subject="server chat")
    assert prune_all() == 1
    assert [act.at for act in AuditEntry.objects.all()] == [NOW - KEPT + timedelta(minutes=1)]


# --- Runs ----------------------------------------------------------------------------------------------


def live_and_die(kind=FailureKind.HUNG, *, adopted=False):
    opened = RunOpened(identity=None, adopted=adopted, retry=0, started_at=STARTED)
    closed = RunClosed(at=STARTED + 1, exit=Exit(), failure=failure_of(kind))
    _save("local", change("default", opened, closed), STORE_HOOKS.follow)


def counters(client):
    families = text_string_to_metric_families(client.get("/metrics").content.decode())
    samples = [sample for family in families if family.type == "counter" for sample in family.samples]
    return {(sample.name, *sorted(sample.labels.values())): sample.value for sample in samples}


def test_no_counter_falls_when_runs_are_deleted(few, client):
    make_server()
    for _ in range(5):
        live_and_die()
    live_and_die(FailureKind.EXITED, adopted=True)
    before = counters(client)
    assert before["llamaproxy_server_starts_total", "default"] == 5
    assert before["llamaproxy_server_failures_total", "default", "hung"] == 5
    assert before["llamaproxy_server_failures_total", "default", "exited"] == 1
    assert prune_all()
    assert counters(client) == before
    live_and_die()
    assert counters(client)["llamaproxy_server_starts_total", "default"] == 6


def test_the_newest_runs_of_each_server_stay(few):
    one, two = make_server("one"), make_server("two")
    first, second = runs(one, 5), runs(two, 7)
    assert prune_all() == 3
    assert left() == {*first[-3:], *second[-3:]}


def test_runs_up_to_the_number_that_is_kept_all_stay(few):
    kept = runs(make_server(), 3)
    assert prune_all() == 0
    assert left() == set(kept)


def test_an_open_run_stays_however_old_it_is(few):
    server = make_server()
    adopted = make_run(server, ended_at=None, adopted=True)
    newest = runs(server, 5)[-3:]
    prune_all()
    assert left() == {adopted.pk, *newest}


def test_the_run_that_a_rollback_goes_back_to_stays(few):
    server = make_server()
    runs(server, 2, ready_at=at(STARTED + 1), launch={"port": 1})
    good = make_run(server, ready_at=at(STARTED + 1), launch={"port": 2})
    newest = runs(server, 5, launch={"port": 3})[-3:]
    prune_all()
    assert left() == {good.pk, *newest}


def test_the_newest_are_those_that_were_seen_last_whatever_the_clock_said(few):
    server = make_server()
    before = [make_run(server, started_at=at(STARTED + 86_400)).pk for _ in range(2)]
    after = [make_run(server, started_at=at(STARTED)).pk for _ in range(3)]
    prune_all()
    assert left() == set(after)
    assert not left() & set(before)


def test_runs_of_another_node_are_its_supervisors(few):
    kept = runs(make_server(node="gpu-7"), 5)
    assert prune_all("local") == 0
    assert left() == set(kept)
    prune_all("gpu-7")
    assert left() == set(kept[-3:])


def test_really_a_thousand_are_kept_and_deleted_in_batches():
    server = make_server()
    Run.objects.bulk_create(
        Run(server=server, started_at=at(STARTED), ended_at=at(STARTED)) for _ in range(RUNS_KEPT + BATCH + 1)
    )
    newest = list(Run.objects.values_list("pk", flat=True)[:RUNS_KEPT])
    assert retention.prune("local", NOW)
    assert Run.objects.count() == RUNS_KEPT + 1
    assert prune_all() == 1
    assert left() == set(newest)


# --- Alerts --------------------------------------------------------------------------------------------


def incident(server, closed_at: datetime | None, deliveries: int = 1) -> Incident:
    made = Incident.objects.create(server=server, opened_at=OLD, closed_at=closed_at, worst="crashed")
    channel, _ = AlertChannel.objects.get_or_create(name="ops", url="https://example.org/")
    for sequence in range(deliveries):
        Delivery.objects.create(
            channel=channel, incident=made, event="still_down", sequence=sequence, alert={}, created_at=OLD
        )
    return made


def test_an_incident_goes_with_its_deliveries_90_days_after_its_end(few):
    server = make_server()
    incident(server, OLD, deliveries=3)
    young = incident(server, YOUNG, deliveries=3)
    assert prune_all() == 3
    assert Incident.objects.get() == young
    assert Delivery.objects.filter(incident=young).count() == Delivery.objects.count() == 3


def test_an_incident_that_is_open_keeps_all_that_was_said(few):
    incident(make_server(), None, deliveries=5)
    assert prune_all() == 0
    assert Delivery.objects.count() == 5


def test_an_incident_of_which_nobody_was_told_goes_too(few):
    incident(make_server(), OLD, deliveries=0)
    assert prune_all() == 1
    assert not Incident.objects.exists()


# --- By the supervisor ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
async def test_the_store_prunes_what_is_its_nodes(few):
    await db(lambda: runs(make_server(), 6))
    store = OrmStore(node="local", overlay=Overlay, command=tuple, lease=Lease("local"), hooks=STORE_HOOKS)
    try:
        assert [await store.prune() for _ in range(3)] == [True, True, False]
    finally:
        store.close()
    assert await Run.objects.acount() == 3
