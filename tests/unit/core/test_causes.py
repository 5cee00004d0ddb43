"""Is what a permanent failure hangs on gone?"""

from __future__ import annotations

import os
import socket
from dataclasses import replace

import pytest

from supervisor_app.core.diagnosis.cause_watch import CauseWatch
from supervisor_app.core.diagnosis.explanations import CANNOT_RUN, failure_of
from supervisor_app.core.machine.causes import cause_of
from supervisor_app.core.sightings import Cause
from supervisor_app.core.status import FailureKind
from supervisor_app.core.testing import make_spec

ABSENT, THERE, LARGER = (
    Cause(present=present, mark=mark) for present, mark in ((True, 0), (False, 1), (False, 2))
)
BROKEN, WHOLE = Cause(present=True, mark=1), Cause(present=True, mark=2)
HELD, FREE = Cause(present=True, mark=(7,), is_port=True), Cause(present=False, mark=(), is_port=True)


def looks(first, *seen):
    watch = CauseWatch()
    watch.begin(first)
    return [watch.is_gone(cause) for cause in seen]


@pytest.mark.parametrize(
    ("first", "seen", "gone"),
    [
        (ABSENT, [ABSENT, THERE, THERE], [False, False, True]),
        (ABSENT, [THERE, LARGER, LARGER], [False, False, True]),
        (BROKEN, [BROKEN, BROKEN, WHOLE, WHOLE], [False, False, False, True]),
        (HELD, [HELD, FREE, FREE], [False, False, True]),
        (FREE, [FREE], [True]),
        (None, [None, None], [False, False]),
    ],
)
def test_gone_is_what_has_changed_and_is_at_rest(first, seen, gone):
    assert looks(first, *seen) == gone


def test_a_file_that_was_there_all_the_time_is_worth_one_try():
    watch = CauseWatch()
    watch.begin(THERE)
    assert watch.is_gone(THERE)
    for _ in range(3):
        watch.begin(THERE)
        assert not watch.is_gone(THERE)
    assert not watch.is_gone(LARGER)
    assert watch.is_gone(LARGER)


def test_the_first_look_after_one_that_could_not_be_taken_says_nothing():
    watch = CauseWatch()
    watch.begin_unseen()
    assert not watch.is_gone(BROKEN)
    assert [watch.is_gone(WHOLE), watch.is_gone(WHOLE)] == [False, True]


def test_a_port_may_be_free_as_often_as_it_likes():
    watch = CauseWatch()
    for _ in range(3):
        watch.begin(FREE)
        assert watch.is_gone(FREE)


# What it hangs on


@pytest.fixture
def spec(tmp_path):
    return replace(make_spec(args=("-m", "m.gguf")), command=("llama-server",), cwd=str(tmp_path))


def failure(kind, file=""):
    return replace(failure_of(kind), file=str(file))


def test_a_cause_is_the_file_that_the_line_names(spec, tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    named = failure(FailureKind.MODEL_MISSING, tmp_path / "mmproj.gguf")
    before = cause_of(named, spec)
    assert before.present
    (tmp_path / "mmproj.gguf").touch()
    assert not cause_of(named, spec).present
    assert cause_of(named, spec) != before


@pytest.mark.parametrize("kind", [FailureKind.MODEL_MISSING, FailureKind.MODEL_CORRUPT])
def test_without_a_name_it_is_the_model(spec, tmp_path, kind):
    before = cause_of(failure(kind), spec)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert cause_of(failure(kind), spec) != before


@pytest.mark.parametrize("kind", [FailureKind.BINARY_MISSING, FailureKind.LIBRARY_MISSING])
def test_without_a_name_it_is_the_program(spec, tmp_path, kind):
    before = cause_of(failure(kind), spec)
    (tmp_path / "llama-server").touch()
    assert cause_of(failure(kind), spec) != before
    assert cause_of(failure(kind), replace(spec, command=())) is None


def test_a_program_that_is_there_but_does_not_run_is_a_cause_until_it_changes(spec, tmp_path):
    (tmp_path / "llama-server").touch()
    unable = replace(failure(FailureKind.BINARY_MISSING, tmp_path / "llama-server"), title=CANNOT_RUN)
    before = cause_of(unable, spec)
    assert before.present
    (tmp_path / "llama-server").chmod(0o755)
    assert cause_of(unable, spec) != before


def test_a_model_with_parts_hangs_on_all_of_them(spec, tmp_path):
    first, second = (tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2))
    first.touch()
    second.touch()
    broken = failure(FailureKind.MODEL_CORRUPT, first)
    before = cause_of(broken, spec)
    os.truncate(second, 1)
    assert cause_of(broken, spec) != before


def test_a_port_is_a_cause_until_it_is_free(spec):
    with socket.create_server(("127.0.0.1", 0)) as held:
        taken = replace(spec, host="127.0.0.1", port=held.getsockname()[1])
        before = cause_of(failure(FailureKind.PORT_TAKEN), taken)
        assert (before.present, before.is_port) == (True, True)
    assert cause_of(failure(FailureKind.PORT_TAKEN), taken) != before


def test_a_name_that_no_disk_can_hold_is_a_cause_that_stays(spec):
    impossible = failure(FailureKind.MODEL_MISSING, "a\0b")
    assert cause_of(impossible, spec) == cause_of(impossible, spec)


def test_a_flag_that_names_no_file_cannot_be_watched(spec):
    assert cause_of(failure(FailureKind.BAD_ARGUMENT), spec) is None
    assert cause_of(failure(FailureKind.MODEL_MISSING), replace(spec, model_path=None)) is None


def test_a_flag_that_names_a_file_can(spec, tmp_path):
    bad = failure(FailureKind.BAD_ARGUMENT, tmp_path / "mcp.json")
    before = cause_of(bad, spec)
    (tmp_path / "mcp.json").write_text("{}")
    assert cause_of(bad, spec) != before
