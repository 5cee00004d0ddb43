"""The overview as data: `supervisor_app.pages.presenters.overview`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.status import Failure, FailureKind, LlamaStatus, RunSummary, Status
from supervisor_app.fleet.maintenance_rules import Plan
from supervisor_app.fleet.snapshots import ServerView
from supervisor_app.pages.presenters.overview import (
    Figures,
    Help,
    Place,
    attention_of,
    last_trouble,
    model_of,
    overview_of,
    rank_of,
)
from supervisor_app.traffic.live import Counts

OOM = Failure(
    kind=FailureKind.OUT_OF_MEMORY,
    permanent=False,
    title="Out of memory",
    detail="malloc failed",
    hint="Less.",
)
READY = LlamaStatus(name="chat", status=Status.READY, detail="Serving 1 model.")
DOWN = replace(READY, status=Status.ERROR, failure=OOM, detail="Out of memory: malloc failed. Press Start.")


def run(started, ended=None, ready=None, failure=None):
    return RunSummary(
        retry=0, adopted=False, started_at=started, ready_at=ready, ended_at=ended, failure=failure
    )


@pytest.mark.parametrize(
    "status",
    [
        READY,
        replace(READY, status=Status.INITIAL),
        replace(READY, status=Status.INITIAL, unloaded=True),
        replace(READY, status=Status.STARTING),
        replace(READY, status=Status.STOPPING),
    ],
)
def test_a_server_that_does_as_it_was_asked_needs_no_attention(status):
    assert attention_of(status, None) is None


@pytest.mark.parametrize(
    ("status", "stale", "what", "help_"),
    [
        (DOWN, None, "Error", Help.START),
        (replace(DOWN, failure=replace(OOM, permanent=True)), None, "Error", Help.LOOK),
        (replace(DOWN, failure=None), None, "Error", Help.START),
        (replace(DOWN, can_roll_back=True), None, "Error", Help.ROLL_BACK),
        (replace(DOWN, status=Status.CRASHED), None, "Crashed", Help.LOOK),
        (replace(DOWN, status=Status.CRASHED, can_roll_back=True), None, "Crashed", Help.ROLL_BACK),
        (replace(READY, status=Status.STARTING, retries=1), None, "Starting", Help.LOOK),
        (replace(READY, warnings=("It uses 5 GiB.",)), None, "Ready, with 1 warning", Help.LOOK),
        (replace(READY, warnings=("a", "b")), None, "Ready, with 2 warnings", Help.LOOK),
        (READY, 900.0, "No supervisor is reporting", Help.LOOK),
    ],
)
def test_trouble_is_told_with_the_button_that_helps(status, stale, what, help_):
    entry = attention_of(status, stale)
    assert entry is not None
    assert (entry.what, entry.help) == (what, help_)


@pytest.mark.parametrize(
    ("status", "stale"),
    [
        (DOWN, None),
        (replace(DOWN, status=Status.CRASHED), None),
        (replace(READY, status=Status.STARTING, retries=1), None),
        (READY, 900.0),
    ],
)
def test_in_maintenance_a_server_may_be_down(status, stale):
    assert attention_of(status, stale, is_planned=True) is None
    assert rank_of(status, stale, is_planned=True) > rank_of(DOWN, None)


def test_warnings_of_a_server_that_is_ready_are_told_in_maintenance_too():
    assert attention_of(replace(READY, warnings=("It uses 5 GiB.",)), None, is_planned=True) is not None


@pytest.mark.parametrize(
    ("planned", "said", "order"),
    [("a", "but for 1 server in maintenance", "bca"), ("ab", "but for 2 servers in maintenance", "cab")],
)
def test_all_is_well_but_for_what_is_in_maintenance_which_comes_last(planned, said, order):
    plan = Plan(number=1, server=None, since=1.0, until=None, by="", note="")
    views = [
        ServerView(status=replace(DOWN, name=name), plan=plan if name in planned else None) for name in "abc"
    ]
    overview = overview_of(views, {})
    assert said in overview.well
    assert "".join(row.view.status.name for row in overview.rows) == order


def test_the_reason_is_the_plain_sentence():
    entry = attention_of(DOWN, None)
    assert entry is not None
    assert entry.why == "Out of memory. Press Start."


@pytest.mark.parametrize("status", [Status.ERROR, Status.CRASHED, Status.STARTING])
def test_trouble_says_since_when_it_is_down_also_of_a_server_that_never_ran(status):
    entry = attention_of(replace(DOWN, status=status, retries=1, down_since=40.0), None)
    assert entry is not None
    assert entry.since == 40.0


def test_trouble_comes_first_then_what_moves_then_the_rest_by_name():
    views = [
        ServerView(status=replace(READY, name="b-ready")),
        ServerView(status=replace(READY, name="a-stopped", status=Status.INITIAL)),
        ServerView(status=replace(DOWN, name="c-down")),
        ServerView(status=replace(READY, name="a-silent"), stale_since=900.0),
        ServerView(status=replace(READY, name="a-ready")),
        ServerView(status=replace(READY, name="d-starting", status=Status.STARTING)),
        ServerView(status=replace(DOWN, name="d-crashed", status=Status.CRASHED)),
    ]
    names = [row.view.status.name for row in overview_of(views, {}).rows]
    assert names == ["c-down", "d-crashed", "a-silent", "d-starting", "a-ready", "b-ready", "a-stopped"]


def test_a_server_that_nobody_watches_is_not_ranked_by_what_it_was():
    assert rank_of(DOWN, 900.0) == rank_of(READY, 900.0)


@pytest.mark.parametrize(("count", "said"), [(2, "Both servers are well."), (4, "All 4 servers are well.")])
def test_when_all_is_well_a_sentence_says_so(count, said):
    views = [ServerView(status=replace(READY, name=str(number))) for number in range(count)]
    assert overview_of(views, {}).well == said


def test_a_server_that_is_alone_is_the_page():
    one, two = (ServerView(status=replace(READY, name=name)) for name in ("a", "b"))
    assert overview_of([one], {}).only is one
    assert overview_of([one, two], {}).only is None
    assert overview_of([], {}).only is None


def test_nodes_are_named_where_there_are_several():
    views = [ServerView(status=replace(READY, name=name)) for name in ("a", "b")]
    same = {"a": Place(node="x"), "b": Place(node="x")}
    assert not overview_of(views, same).has_nodes
    assert overview_of(views, {**same, "b": Place(node="y")}).has_nodes


def test_the_last_trouble_is_the_newest_end_by_a_failure_of_any_server():
    views = [
        ServerView(status=replace(READY, runs=(run(70), run(10, ended=40, failure=OOM)))),
        ServerView(status=replace(READY, runs=(run(20, ended=90), run(1, ended=60, failure=OOM)))),
    ]
    assert last_trouble(views) == 60
    assert last_trouble([ServerView(status=READY)]) is None


@pytest.mark.parametrize(
    ("path", "directory", "args", "model"),
    [
        ("/srv/models/a.gguf", "", [], "a.gguf"),
        ("", "/srv/models/", [], "models of models/"),
        ("", "", ["-c", "512", "-hf", "ggml-org/gemma-3-1b-it-GGUF"], "gemma-3-1b-it-GGUF"),
        ("./models/model.gguf", "", ["--hf_repo", "a/b:Q4"], "b:Q4"),
        ("", "", [], ""),
    ],
)
def test_the_model_is_named_as_it_is_configured(path, directory, args, model):
    assert model_of(path, directory, args) == model


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (None, ""),
        (Counts(), ""),
        (Counts(in_flight=2, waiting=1, tokens_per_second=41.4), "2 in flight · 1 waiting · 41 tokens/s"),
        (Counts(waiting=3), "3 waiting"),
    ],
)
def test_requests_of_a_server_are_told_in_a_line(counts, said):
    assert Figures(counts=counts).said == said
