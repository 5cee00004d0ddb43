"""Why a process ended, by what it said: the line that decides."""

from __future__ import annotations

import signal
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_app.core.diagnosis.diagnose import MAX_DETAIL, diagnose
from supervisor_app.core.diagnosis.explanations import EXPLANATIONS, failure_of
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import FailureKind
from supervisor_app.core.testing import make_spec
from tests.unit.core.diagnosing import BEFORE, FAILED, GENERIC, spec_of, told

KILLED = Exit(signal=signal.SIGKILL)

DECISIVE = [
    # The model file.
    (
        "0.00.031.945 E gguf_init_from_file: failed to open GGUF file '/nope/x.gguf'"
        " (No such file or directory)",
        FailureKind.MODEL_MISSING,
        "failed to open GGUF file '/nope/x.gguf' (No such file or directory)",
    ),
    # The same in older builds.
    (
        "llama_model_load: error loading model: failed to open x.gguf: No such file or directory",
        FailureKind.MODEL_MISSING,
        "error loading model: failed to open x.gguf: No such file or directory",
    ),
    (
        "0.00.031.945 E gguf_init_from_file: failed to open GGUF file 'x' (Permission denied)",
        FailureKind.MODEL_UNREADABLE,
        "failed to open GGUF file 'x' (Permission denied)",
    ),
    (
        "0.00.015.300 E gguf_init_from_reader: failed to read magic",
        FailureKind.MODEL_CORRUPT,
        "failed to read magic",
    ),
    (
        "0.00.016.281 E gguf_init_from_reader: invalid magic characters: ')F\ufffd\ufffd', expected 'GGUF'",
        FailureKind.MODEL_CORRUPT,
        "invalid magic characters: ')F\ufffd\ufffd', expected 'GGUF'",
    ),
    (
        "0.00.016.257 E gguf_init_from_reader: failed to read header",
        FailureKind.MODEL_CORRUPT,
        "failed to read header",
    ),
    (
        "0.00.016.257 E gguf_init_from_reader: failed to read key-value pairs",
        FailureKind.MODEL_CORRUPT,
        "failed to read key-value pairs",
    ),
    (
        "0.00.016.300 E llama_model_load: error loading model: tensor 'output.weight' data is not within"
        " the file bounds, model is corrupted or incomplete",
        FailureKind.MODEL_CORRUPT,
        "error loading model: tensor 'output.weight' data is not within"
        " the file bounds, model is corrupted or incomplete",
    ),
    (
        "0.00.016.300 E llama_model_load: error loading model: unknown model architecture: 'llamq'",
        FailureKind.MODEL_UNSUPPORTED,
        "error loading model: unknown model architecture: 'llamq'",
    ),
    (
        "0.00.020.000 E llama_model_load: error loading model: check_tensor_dims: tensor 'X' not found",
        FailureKind.MODEL_UNSUPPORTED,
        "error loading model: check_tensor_dims: tensor 'X' not found",
    ),
    # The flags.
    (
        "error: invalid argument: --frobnicate",
        FailureKind.BAD_ARGUMENT,
        "error: invalid argument: --frobnicate",
    ),
    (
        'error while handling argument "-c": stoi',
        FailureKind.BAD_ARGUMENT,
        'error while handling argument "-c": stoi',
    ),
    (
        "error while handling argument \"--api-key-file\": error: failed to open file '/nope'",
        FailureKind.BAD_ARGUMENT,
        "error while handling argument \"--api-key-file\": error: failed to open file '/nope'",
    ),
    (
        'error while handling environment variable "LLAMA_ARG_PORT": stoi',
        FailureKind.BAD_ARGUMENT,
        'error while handling environment variable "LLAMA_ARG_PORT": stoi',
    ),
    (
        "0.00.011.810 E llama_init_from_model: quantized V cache requires flash_attn to be enabled",
        FailureKind.BAD_ARGUMENT,
        "quantized V cache requires flash_attn to be enabled",
    ),
    # Memory.
    (
        "0.00.025.000 E mmap failed: Cannot allocate memory",
        FailureKind.OUT_OF_MEMORY,
        "mmap failed: Cannot allocate memory",
    ),
    (
        "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 5476083302",
        FailureKind.OUT_OF_MEMORY,
        "it needs 5.1 GiB more (failed to allocate buffer of size 5476083302)",
    ),
    (
        "0.00.025.000 E alloc_tensor_range: failed to allocate CPU buffer of size 5476083302",
        FailureKind.OUT_OF_MEMORY,
        "it needs 5.1 GiB more (failed to allocate CPU buffer of size 5476083302)",
    ),
    (
        "0.00.025.000 E llama_model_load: error loading model: unable to allocate CPU buffer",
        FailureKind.OUT_OF_MEMORY,
        "error loading model: unable to allocate CPU buffer",
    ),
    (
        "0.00.017.424 E llama_init_from_model: failed to initialize the context: std::bad_alloc",
        FailureKind.OUT_OF_MEMORY,
        "failed to initialize the context: std::bad_alloc",
    ),
    (
        "ggml_aligned_malloc: insufficient memory (attempted to allocate 512.00 MB)",
        FailureKind.OUT_OF_MEMORY,
        "it needs 512 MiB more (insufficient memory (attempted to allocate 512.00 MB))",
    ),
    (
        "alloc_tensor_range: failed to allocate CPU buffer of size 2048",
        FailureKind.OUT_OF_MEMORY,
        "it needs 2.0 KiB more (failed to allocate CPU buffer of size 2048)",
    ),
    (
        "alloc_tensor_range: failed to allocate CPU buffer of size 12",
        FailureKind.OUT_OF_MEMORY,
        "it needs 12 B more (failed to allocate CPU buffer of size 12)",
    ),
    # The GPU.
    (
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 6144.00 MiB on device 0: "
        "cudaMalloc failed: out of memory",
        FailureKind.GPU_OUT_OF_MEMORY,
        "it needs 6.0 GiB more (allocating 6144.00 MiB on device 0: cudaMalloc failed: out of memory)",
    ),
    (
        "llama_model_load: error loading model: unable to allocate CUDA0 buffer",
        FailureKind.GPU_OUT_OF_MEMORY,
        "error loading model: unable to allocate CUDA0 buffer",
    ),
    ("CUDA error: out of memory", FailureKind.GPU_OUT_OF_MEMORY, "CUDA error: out of memory"),
    (
        "  what():  vk::Queue::submit: ErrorDeviceLost",
        FailureKind.GPU_LOST,
        "what():  vk::Queue::submit: ErrorDeviceLost",
    ),
    (
        "0.01.000.000 E CUDA error: unspecified launch failure",
        FailureKind.GPU_LOST,
        "CUDA error: unspecified launch failure",
    ),
    # Libraries.
    (
        "llama-server: error while loading shared libraries: libggml.so: cannot open shared object file",
        FailureKind.LIBRARY_MISSING,
        "llama-server: error while loading shared libraries: libggml.so: cannot open shared object file",
    ),
    (
        "ModuleNotFoundError: No module named 'xllamacpp'",
        FailureKind.LIBRARY_MISSING,
        "ModuleNotFoundError: No module named 'xllamacpp'",
    ),
    # llama.cpp's own end.
    (
        "./src/llama-context.cpp:2384: GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max) failed",
        FailureKind.KILLED_BY_SIGNAL,
        "./src/llama-context.cpp:2384: GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max) failed",
    ),
    (
        "Received second interrupt, terminating immediately.",
        FailureKind.EXITED,
        "Received second interrupt, terminating immediately.",
    ),
]


@pytest.mark.parametrize("kind", list(FailureKind))
def test_every_kind_has_a_title_and_a_hint(kind):
    failure = failure_of(kind, "x")
    assert failure.kind is kind
    assert failure.detail == "x"
    assert failure.title
    assert failure.hint.endswith(".")
    assert failure.sentence == f"{failure.title}: x"


def test_permanent_is_what_a_retry_cannot_mend():
    assert {kind for kind in FailureKind if EXPLANATIONS[kind].permanent} == {
        FailureKind.BINARY_MISSING,
        FailureKind.DOES_NOT_FIT,
        FailureKind.LIBRARY_MISSING,
        FailureKind.BAD_ARGUMENT,
        FailureKind.MODEL_MISSING,
        FailureKind.MODEL_UNREADABLE,
        FailureKind.MODEL_CORRUPT,
        FailureKind.MODEL_UNSUPPORTED,
        FailureKind.PORT_TAKEN,
    }


@pytest.mark.parametrize(("line", "kind", "detail"), DECISIVE)
def test_the_decisive_line_names_the_cause(line, kind, detail):
    failure = told(FAILED, [*BEFORE, line, *GENERIC], was_ready=False)
    assert failure == failure_of(kind, detail) or kind is FailureKind.KILLED_BY_SIGNAL
    assert (failure.kind, failure.detail) == (kind, detail)


@pytest.mark.parametrize(("line", "kind", "detail"), DECISIVE)
def test_colours_do_not_hide_the_decisive_line(line, kind, detail):
    coloured = f"\x1b[31m{line[:12]}\x1b[0m{line[12:]}\x1b[0;1m"
    failure = told(FAILED, [coloured, *GENERIC], was_ready=False)
    assert (failure.kind, failure.detail) == (kind, detail)


@pytest.mark.parametrize(("line", "kind", "detail"), DECISIVE)
def test_after_having_been_ready_nothing_is_permanent(line, kind, detail):
    failure = told(FAILED, [BEFORE[0], line], was_ready=True)
    assert failure.kind is kind
    assert not failure.permanent


def test_the_decisive_line_is_told_as_it_was_written():
    lines = [
        "0.00.000.000 I srv  a: b",
        "0.00.000.001 E x_y: invalid magic characters: 'x'",
        "0.00.000.002 E y_z: unknown model architecture: 'z'",
    ]
    assert diagnose(FAILED, lines, was_ready=False).decisive.text == lines[1]
    assert diagnose(FAILED, lines, was_ready=True).decisive.text == lines[2]
    assert diagnose(FAILED, lines, was_ready=True).decisive.number == 2
    assert diagnose(FAILED, lines[:1], was_ready=False).decisive is None
    assert diagnose(Exit(code=0), lines, was_ready=False).decisive is None


def test_the_generic_lines_decide_nothing():
    failure = told(FAILED, [*BEFORE, *GENERIC], was_ready=False)
    assert failure.kind is FailureKind.UNKNOWN
    assert not failure.permanent


def test_before_ready_the_first_decisive_line_wins():
    lines = ["error: invalid argument: -x", "unable to allocate CPU buffer"]
    assert told(FAILED, lines, was_ready=False).kind is FailureKind.BAD_ARGUMENT


def test_after_ready_the_last_decisive_line_wins():
    lines = ["cudaMalloc failed: out of memory", "CUDA error: unspecified launch failure"]
    assert told(FAILED, lines, was_ready=True).kind is FailureKind.GPU_LOST


@pytest.mark.parametrize(
    "line",
    [
        "0.00.009.858 E srv         start: couldn't bind HTTP server socket, hostname: 10.9.8.7, port: 8134",
        # Older builds.
        "couldn't bind to server socket: hostname=10.9.8.7 port=8134",
    ],
)
def test_an_address_that_cannot_be_bound_is_named_and_tried_again(line):
    generic = "0.00.009.993 E srv  llama_server: exiting due to HTTP server error"
    failure = told(FAILED, [*BEFORE, line, generic], was_ready=False)
    assert failure.kind is FailureKind.PORT_TAKEN
    assert failure.detail == "could not listen on 10.9.8.7 port 8134"
    assert not failure.permanent


def test_a_bind_failure_without_an_address_shows_the_line():
    failure = told(FAILED, ["couldn't bind HTTP server socket"], was_ready=False)
    assert failure.detail == "couldn't bind HTTP server socket"


def test_a_broken_model_is_named_when_the_line_does_not():
    failure = told(FAILED, ["failed to read magic"], was_ready=False, spec=spec_of("/m/x.gguf"))
    assert failure.detail == "failed to read magic (/m/x.gguf)"
    assert failure.file == "/m/x.gguf"


def test_a_broken_model_that_nobody_names_stays_without_a_name():
    nameless = replace(make_spec(args=("-hf", "a/b")), model_path=None)
    failure = told(FAILED, ["failed to read magic"], was_ready=False, spec=nameless)
    assert (failure.detail, failure.file) == ("failed to read magic", "")


def test_a_broken_model_is_not_named_twice():
    line = "failed to read tensor data of /m/x.gguf"
    failure = told(FAILED, [line], was_ready=False, spec=spec_of("/m/x.gguf"))
    assert failure.detail == line


def test_a_line_that_is_all_prefix_is_shown_as_it_is():
    assert told(Exit(code=3), ["E llama_server: "], was_ready=False).detail.endswith("llama_server:")


def test_a_runaway_line_costs_no_time_and_no_space():
    lines = ["x" * 2**20, "model failed to open " * 50_000, "error: invalid argument: " + "y" * 2**20]
    began = time.perf_counter()
    failure = told(FAILED, lines * 10, was_ready=False)
    assert time.perf_counter() - began < 1
    assert failure.kind is FailureKind.BAD_ARGUMENT
    assert len(failure.detail) == MAX_DETAIL


def test_characters_that_no_database_takes_are_not_in_the_detail():
    failure = told(FAILED, ["error: invalid argument: a\0b\udc80c\x07"], was_ready=False)
    assert failure.detail == "error: invalid argument: a b c"


def test_before_ready_a_crash_with_a_reason_beside_it_has_that_reason():
    lines = ["terminate called after throwing an instance of 'std::bad_alloc'", "  what():  std::bad_alloc"]
    assert told(Exit(signal=6), lines, was_ready=False).kind is FailureKind.OUT_OF_MEMORY
    assert told(Exit(signal=6), lines[:1], was_ready=False).kind is FailureKind.KILLED_BY_SIGNAL


LINES = st.lists(
    st.text()
    | st.sampled_from([line for line, _, _ in DECISIVE]).flatmap(
        lambda line: st.text(max_size=5).map(lambda noise: noise + line)
    ),
    max_size=8,
)
EXITS = st.builds(
    Exit,
    code=st.none() | st.integers(-300, 300),
    signal=st.none() | st.integers(1, 64),
)


@given(ended=EXITS, lines=LINES, was_ready=st.booleans(), model_path=st.none() | st.text())
def test_no_text_breaks_the_diagnosis(ended, lines, was_ready, model_path):
    failure = told(ended, lines, was_ready=was_ready, spec=spec_of(model_path) if model_path else None)
    assert failure.kind in FailureKind
    assert not (failure.permanent and was_ready)
    assert failure.title
    assert failure.hint
    assert len(failure.detail) <= 2 * MAX_DETAIL + 50
