"""A status in the columns of the database and back again, and the views that are read from there."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.sightings import Identity
from supervisor_app.core.status import Failure, FailureKind, LlamaStatus, Model, Progress, RunSummary, Status
from supervisor_app.fleet.lease import NodeLease
from supervisor_app.fleet.models import LlamaServer, ServerState
from supervisor_app.fleet.planned import load_marks
from supervisor_app.fleet.snapshots import (
    columns_of,
    identity_of_row,
    load_views,
    snapshot_of,
    view_of,
)
from tests.integration.building import (
    MODEL,
    OUT_OF_MEMORY,
    STARTED,
    at,
    long_ago,
    make_ready_server,
    make_run,
    make_server,
    make_state,
)

pytestmark = pytest.mark.django_db(transaction=True)


text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
maybe = st.none
moments = st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000)
counts = st.integers(0, 2**31 - 1)
kinds = st.sampled_from(FailureKind)


@st.composite
def failures(draw):
    kind = draw(kinds)
    return Failure(
        kind=kind,
        permanent=failure_of(kind).permanent,
        title=draw(text),
        detail=draw(text),
        hint=draw(text),
    )


models = st.builds(
    Model,
    id=text,
    name=text,
    size=maybe() | st.integers(0, 2**53),
    type=text,
    modified_at=maybe() | counts,
    status=text,
)
progresses = st.builds(
    Progress,
    loaded=st.integers(0, 2**50),
    total=st.integers(0, 2**50),
    eta_seconds=maybe() | st.integers(0, 10**6).map(lambda tenths: tenths / 10),
)


@st.composite
def snapshots(draw):
    status = draw(st.sampled_from(Status))
    return LlamaStatus(
        name="default",
        status=status,
        detail=draw(text),
        url=draw(text),
        models=tuple(draw(st.lists(models, max_size=3))),
        last_error=draw(maybe() | text),
        failure=draw(maybe() | failures()),
        retries=draw(counts),
        max_retries=draw(counts),
        started_at=draw(moments if status is Status.READY else maybe() | moments),
        ready_at=draw(maybe() | moments),
        down_since=draw(maybe() | moments),
        next_retry_at=draw(maybe() | moments),
        adopted=draw(st.booleans()),
        pid=draw(maybe() | counts),
        progress=draw(maybe() | progresses),
        warnings=tuple(draw(st.lists(text, max_size=2))),
        version=draw(counts),
    )


@given(snapshot=snapshots(), identity=maybe() | st.builds(Identity, pid=counts, start=counts, boot_id=text))
@settings(max_examples=60, deadline=None)
def test_a_snapshot_comes_back_from_the_database_as_it_was(snapshot, identity):
    server, _ = LlamaServer.objects.get_or_create(name="default")
    columns = columns_of(snapshot, identity, generation=1)
    ServerState.objects.update_or_create(server=server, defaults=columns)
    state = ServerState.objects.get()
    assert snapshot_of("default", state, []) == snapshot
    if identity is not None and snapshot.pid == identity.pid:
        assert identity_of_row(state) == identity


def test_without_a_process_there_is_no_identity():
    server = make_server()
    assert identity_of_row(make_state(server)) is None
    assert identity_of_row(make_run(server, pid=4242)) is None, "half of one is none"


def test_a_run_is_summed_up_as_the_timeline_shows_it():
    server = make_server()
    make_state(server)
    make_run(
        server,
        retry=3,
        adopted=True,
        ready_at=at(STARTED + 1),
        signal=9,
        failure_kind="out_of_memory",
        failure_title=OUT_OF_MEMORY.title,
        failure_detail=OUT_OF_MEMORY.detail,
        failure_hint=OUT_OF_MEMORY.hint,
        evidence={"summary": "It used 5.1 GiB."},
    )
    assert load_views()[0].status.runs == (
        RunSummary(
            retry=3,
            adopted=True,
            started_at=STARTED,
            ready_at=STARTED + 1,
            ended_at=STARTED + 60,
            signal=9,
            failure=OUT_OF_MEMORY,
            memory="It used 5.1 GiB.",
        ),
    )


def test_all_servers_are_read_in_two_queries(django_assert_num_queries):
    for name in ("one", "two", "three"):
        server = make_server(name)
        make_state(server, served=[MODEL.as_json()])
        for _ in range(12):
            make_run(server)
    with django_assert_num_queries(2):
        views = load_views()
    assert [view.status.name for view in views] == ["one", "three", "two"]
    assert {len(view.status.runs) for view in views} == {10}


def test_a_server_that_no_supervisor_has_seen_says_what_to_do():
    view = view_of(make_server(node="gpu-7", max_retries=9))
    assert (view.status.status, view.status.max_retries, view.stale_since) == (Status.INITIAL, 9, None)
    assert view.status.detail == ("No supervisor looks after it. Run manage.py runsupervisor on node gpu-7.")


def test_a_supervisor_that_fell_silent_is_told():
    server = make_server()
    seen = long_ago()
    make_state(server, seen_at=seen)
    assert load_views()[0].stale_since == seen.timestamp()


def test_a_node_whose_lease_ran_out_is_silent_whatever_the_clock_of_its_host_said():
    NodeLease.objects.create(node="local", holder="1 1 boot/1 there", token="t", renewed_at=long_ago())
    make_ready_server(seen_at=timezone.now() + timedelta(hours=1))
    assert not load_views()[0].is_known
    assert load_marks()["default"] == (1, True, 0)
    NodeLease.objects.update(renewed_at=timezone.now())
    assert load_views()[0].is_known
    assert load_marks()["default"] == (1, False, 0)


def test_an_old_status_is_told_as_what_was_seen_last_and_no_more():
    seen = at(1_750_000_000.0)
    make_ready_server(seen_at=seen, started_at=at(1_749_999_990.0))
    told = load_views()[0].as_json(1_750_001_000.0)
    assert (told["supervised"], told["lastSeen"]) == (False, "2025-06-15T15:06:40.000Z")
    assert (told["status"], told["uptime"]) == ("ready", 10)
    assert told["detail"] == (
        "No supervisor has reported since 2025-06-15T15:06:40.000Z, when it was ready: Serving 1 model."
    )


def test_while_a_supervisor_reports_nothing_is_said_of_that():
    make_ready_server()
    told = load_views()[0].as_json(1_750_001_000.0)
    assert (told["supervised"], told["lastSeen"], told["detail"]) == (True, None, "Serving 1 model.")
