"""Why a process ended, by its signal or code, where no line of its output decides."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from supervisor_app.core.diagnosis.diagnose import diagnose
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import FailureKind
from tests.unit.core.diagnosing import BEFORE, FAILED, GENERIC, spec_of, told

KILLED = Exit(signal=signal.SIGKILL)


def test_sigkill_without_a_word_points_at_the_oom_killer():
    failure = told(KILLED, [*BEFORE, "srv    load_model: loading model 'x'"], was_ready=False)
    assert failure.kind is FailureKind.KILLED_BY_SIGNAL
    assert "SIGKILL" in failure.detail
    assert "OOM killer" in failure.hint
    assert not failure.permanent


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGBUS, "model file"),
        (signal.SIGSEGV, "crashed"),
        (signal.SIGABRT, "crashed"),
        (signal.SIGILL, "processor"),
        (signal.SIGTERM, "something else"),
        (signal.SIGHUP, "something else"),
        (signal.SIGUSR1, f"signal {signal.SIGUSR1:d}"),
    ],
)
def test_a_signal_is_explained(number, words):
    failure = told(Exit(signal=number), [], was_ready=True)
    assert failure.kind is FailureKind.KILLED_BY_SIGNAL
    assert words in failure.detail


def test_a_death_by_signal_is_never_permanent():
    failure = told(Exit(signal=signal.SIGSEGV), ["error: invalid argument: -x"], was_ready=False)
    assert failure.kind is FailureKind.BAD_ARGUMENT
    assert not failure.permanent


@pytest.mark.parametrize("was_ready", [False, True])
@pytest.mark.parametrize(
    "ended", [KILLED, Exit(code=137), Exit(signal=signal.SIGTERM), Exit(signal=signal.SIGHUP), Exit(code=143)]
)
def test_a_signal_that_somebody_sent_has_no_decisive_line(ended, was_ready):
    found = diagnose(ended, [*BEFORE, "CUDA error: out of memory"], was_ready=was_ready)
    assert found.decisive is None
    assert found.failure.kind is FailureKind.KILLED_BY_SIGNAL


def test_a_failed_assertion_is_a_crash_with_its_line():
    lines = ["ggml.c:1: GGML_ASSERT(x) failed", "[New LWP 13300]", "#0 0x0 in ?? ()"]
    failure = told(Exit(signal=signal.SIGABRT), lines, was_ready=True)
    assert failure.detail == "ggml.c:1: GGML_ASSERT(x) failed"
    assert "llama.cpp" in failure.hint


def test_a_gpu_error_is_not_a_mere_crash():
    lines = ["CUDA error: unspecified launch failure", "ggml-cuda.cu:98: CUDA error"]
    failure = told(Exit(signal=signal.SIGABRT), lines, was_ready=True)
    assert failure.kind is FailureKind.GPU_LOST


def test_a_wrapping_shell_reports_the_signal_as_a_code():
    failure = told(Exit(code=128 + signal.SIGKILL), [], was_ready=True)
    assert failure.kind is FailureKind.KILLED_BY_SIGNAL
    assert "SIGKILL" in failure.detail


@pytest.mark.parametrize(
    ("code", "lines", "detail"),
    [
        (
            127,
            ["run.sh: line 2: llama-server: command not found"],
            "run.sh: line 2: llama-server: command not found",
        ),
        (126, [], "code 126"),
    ],
)
def test_a_shell_that_cannot_run_the_binary_means_that_it_is_missing(code, lines, detail):
    failure = told(Exit(code=code), lines, was_ready=False)
    assert (failure.kind, failure.detail) == (FailureKind.BINARY_MISSING, detail)
    assert (failure.title, failure.permanent) == ("llama-server cannot be run", True)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("/usr/bin/env: ‘python3.99’: No such file or directory", "/opt/run"),
        ("/usr/bin/env: 'python3.99': No such file or directory", "/opt/run"),
        ("run.sh: line 2: /nope/llama-server: No such file or directory", "/nope/llama-server"),
        ("run.sh: 2: exec: /nope/llama-server: Permission denied", "/nope/llama-server"),
        ("/opt/run: line 2: /nope/x: cannot execute: required file not found", "/nope/x"),
        ("Segmentation fault", "/opt/run"),
    ],
)
def test_a_script_that_cannot_go_on_hangs_on_what_it_names_or_on_itself(line, path):
    spec = replace(spec_of("/m/x.gguf"), command=("/opt/run",))
    failure = told(Exit(code=127), ["nvidia-smi: command not found", line], was_ready=False, spec=spec)
    assert failure.file == path
    assert "/opt/run" in failure.hint


def test_a_missing_optional_command_of_a_script_is_not_the_cause():
    lines = ["run.sh: line 1: nvidia-smi: command not found", "0.00.010.000 E x_y: n_foo is odd"]
    assert told(FAILED, lines, was_ready=False).kind is FailureKind.UNKNOWN


def test_code_127_with_the_loaders_line_means_a_library_is_missing():
    line = "x: error while loading shared libraries: libllama.so: cannot open shared object file"
    assert told(Exit(code=127), [line], was_ready=False).kind is FailureKind.LIBRARY_MISSING


def test_code_127_after_ready_is_an_exit_like_others():
    assert told(Exit(code=127), [], was_ready=True).kind is FailureKind.EXITED


@pytest.mark.parametrize("was_ready", [False, True])
def test_a_clean_exit_that_nobody_asked_for_is_told_as_such(was_ready):
    # What the log says does not matter: it ended well.
    failure = told(Exit(code=0), ["error: invalid argument: -x"], was_ready=was_ready)
    assert failure == failure_of(FailureKind.EXITED, "it ended by itself with code 0")


def test_an_adopted_process_leaves_no_exit_code():
    failure = told(Exit(), [], was_ready=True)
    assert failure.kind is FailureKind.EXITED
    assert failure.detail == "how it ended is unknown, because it was not started here"


def test_an_adopted_process_that_wrote_why_is_believed():
    failure = told(Exit(), ["CUDA error: out of memory"], was_ready=True)
    assert failure.kind is FailureKind.GPU_OUT_OF_MEMORY


def test_an_unknown_end_after_ready_shows_nothing_of_its_log():
    lines = [
        "0.00.017.424 E srv    load_model: old trouble",
        "0.09.017.424 E srv    operator(): a prompt",
        "x",
    ]
    failure = told(Exit(code=3), lines, was_ready=True)
    assert failure == failure_of(FailureKind.EXITED, "it ended with code 3")


def test_an_unknown_end_before_ready_shows_only_errors_of_llama_server():
    lines = ["+ export TOKEN=abc", "0.00.017.424 I srv    operator(): bye", "I would not"]
    failure = told(Exit(code=3), lines, was_ready=False)
    assert failure == failure_of(FailureKind.UNKNOWN, "it ended with code 3")


def test_an_unknown_end_before_ready_shows_the_first_error():
    lines = [*BEFORE, "0.00.017.424 E llama_init_from_model: n_foo is odd", *GENERIC]
    failure = told(FAILED, lines, was_ready=False)
    assert failure == failure_of(FailureKind.UNKNOWN, "it ended with code 1, its last words: n_foo is odd")


def test_an_unknown_end_without_a_word():
    failure = told(Exit(code=3), [], was_ready=False)
    assert failure == failure_of(FailureKind.UNKNOWN, "it ended with code 3")
