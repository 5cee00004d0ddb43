"""The words of the pages: `supervisor_app.pages.templatetags.supervisor_tags`."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest

from supervisor_app.core.status import (
    Failure,
    FailureKind,
    LlamaStatus,
    Progress,
    RunSummary,
    Status,
)
from supervisor_app.pages.templatetags import supervisor_tags as tags

GIB = 2**30
OOM = Failure(
    kind=FailureKind.OUT_OF_MEMORY,
    permanent=False,
    title="Out of memory",
    detail="failed to allocate buffer",
    hint="Try a smaller model.",
)
RUN = RunSummary(retry=0, adopted=False, started_at=1000.0)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (tags.duration(7500), "2 h 05 m"),
        (tags.brief(2.04), "2.0 s"),
        (tags.ago(1000.0, 1720.0), "12 m ago"),
        (tags.eta(72.0), "about 1 m 12 s left"),
        (tags.size(int(5.1 * GIB)), "5.1 GiB"),
        (tags.iso(1763820000.5), "2025-11-22T14:00:00Z"),
        (tags.clock(1763820000.5), "22 Nov, 14:00 UTC"),
        (tags.instant(1763820000.5), "22 Nov 2025, 14:00:00 UTC"),
        (tags.ms(1763820000.5), "1763820000500"),
    ],
)
def test_numbers_have_the_words_of_all(said, expected):
    assert said == expected


@pytest.mark.parametrize(
    "said",
    [
        tags.duration(None),
        tags.brief(None),
        tags.ago(None, 5.0),
        tags.eta(None),
        tags.size(None),
        tags.iso(None),
        tags.clock(None),
        tags.instant(None),
        tags.ms(None),
    ],
)
def test_unknown_values_have_no_words(said):
    assert said == ""


def test_progress_is_said_in_one_unit():
    assert tags.loaded_of_total(Progress(loaded=100 * 2**20, total=int(2.9 * GIB))) == "0.1 of 2.9 GiB"


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_wait_that_is_over_is_not_said(seconds):
    assert tags.eta(seconds) == ""


def test_since_never_runs_backwards():
    assert tags.since(10.0, 4.0) == 6.0
    assert tags.since(10.0, 14.0) == 0.0
    assert tags.since(10.0, None) is None


@pytest.mark.parametrize("status", Status)
def test_every_status_has_a_word_and_a_glyph(status):
    assert tags.standing(LlamaStatus(name="default", status=status))
    assert len(tags.glyph(status.value)) == 1


def test_a_server_that_made_room_is_not_called_stopped():
    assert tags.standing(LlamaStatus(name="default")) == "Stopped"
    assert tags.standing(LlamaStatus(name="default", unloaded=True)) == "Not loaded"


def test_the_sentence_leaves_the_evidence_to_its_own_place():
    status = LlamaStatus(name="default", failure=OOM, detail=f"{OOM.sentence}. Retry 2 of 5 after 2 s.")
    assert tags.lede(status) == "Out of memory. Retry 2 of 5 after 2 s."
    assert tags.lede(replace(status, failure=None)) == status.detail
    assert tags.lede(LlamaStatus(name="x", detail="Loading the model.", failure=OOM)) == "Loading the model."


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("plain", "plain"),
        ("run `a --b` or `c`.", "run <code>a --b</code> or <code>c</code>."),
        ("`<b>` & <i>", "<code>&lt;b&gt;</code> &amp; &lt;i&gt;"),
        ("one ` alone", "one ` alone"),
        ("", ""),
    ],
)
def test_code_spans(text, html):
    assert tags.code_spans(text) == html


@pytest.mark.parametrize(
    ("run", "tone", "outcome", "remarks"),
    [
        (RUN, "busy", "Starting", ""),
        (replace(RUN, ready_at=1002.0, adopted=True), "up", "Running", "was already running"),
        (replace(RUN, ready_at=1002.0, ended_at=1009.0, exit_code=0), "calm", "Stopped", ""),
        (replace(RUN, ended_at=1009.0, signal=9), "calm", "Stopped", "signal 9 (SIGKILL)"),
        (
            replace(RUN, ended_at=1009.0, exit_code=1, failure=OOM, retry=2),
            "bad",
            "Out of memory",
            "exit code 1 · never ready · retry 2",
        ),
        (
            replace(RUN, ready_at=1001.0, ended_at=1009.0, signal=250, failure=OOM),
            "bad",
            "Out of memory",
            "signal 250 (unknown)",
        ),
    ],
)
def test_how_a_run_ended(run, tone, outcome, remarks):
    assert (tags.tone(run), tags.outcome(run), tags.remarks(run)) == (tone, outcome, remarks)


def test_lived():
    assert tags.lived(RUN, 1042.0) == 42.0
    assert tags.lived(replace(RUN, ended_at=1007.0), 1042.0) == 7.0
    assert tags.lived(RUN, 900.0) == 0.0


def test_bars_stand_oldest_first_and_to_the_right():
    runs = [replace(RUN, started_at=2000.0), replace(RUN, ended_at=1001.0, failure=OOM)]
    bars = tags.bars(runs, 90_000.0)
    assert [bar.tone for bar in bars] == ["none"] * 8 + ["bad", "busy"]
    assert [bar.x for bar in bars] == list(range(0, 120, 12))
    assert bars[-2].height < bars[-1].height <= 32
    assert all(bar.y + bar.height == pytest.approx(32) for bar in bars)


def test_bars_take_no_more_than_there_is_room_for():
    assert len(tags.bars([RUN] * 14, 90_000.0)) == tags.SLOTS


def test_version_is_what_is_installed(monkeypatch):
    monkeypatch.setattr(tags, "installed_version", lambda name: f"{name} 1.2.3")
    tags.version.cache_clear()
    assert tags.version() == "llamaproxy 1.2.3"
    tags.version.cache_clear()


def test_version_of_a_tree_that_was_never_installed(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(tags, "installed_version", missing)
    tags.version.cache_clear()
    assert tags.version() == ""
    tags.version.cache_clear()


# --- The crash card ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ([(10.0, GIB), (0.0, 5 * GIB)], "From 1.0 GiB to 5.0 GiB in its last 10 s."),
        ([(10.0, GIB), (0.0, GIB + 1)], "About 1.0 GiB for its last 10 s."),
        ([(10.0, 0), (0.0, 0)], "About 0 B for its last 10 s."),
    ],
)
def test_the_trend_of_memory(history, said):
    assert tags.trend(history) == said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "it lives"),
        ({"ended_at": 2000.0}, "unknown"),
        ({"ended_at": 2000.0, "exit_code": 0}, "exit code 0"),
        ({"ended_at": 2000.0, "signal": 9}, "signal 9 (SIGKILL)"),
    ],
)
def test_the_ending_of_a_run_has_its_words(fields, said):
    assert tags.ending(replace(RUN, **fields)) == said


def test_a_sentence_that_begins_in_our_words_gets_a_capital():
    assert tags.as_sentence("it ended by itself") == "It ended by itself"
    assert tags.as_sentence("item not found") == "item not found"


def test_no_more_than_the_limit_can_be_free():
    assert tags.free_of_limit({"limit": 5, "limitUsed": 7}) == 0
