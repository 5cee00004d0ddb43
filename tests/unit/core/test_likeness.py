"""Likeness of two crashes: numbers, addresses and paths make no difference, and all else does."""

from __future__ import annotations

from itertools import combinations

import pytest

from supervisor_app.core.command_line.named_model import named_model
from supervisor_app.core.diagnosis.likeness import LONGEST, key_of, likeness
from tests.unit.core.test_diagnosis import DECISIVE

SAID = {
    "0.00.031.945 E gguf_init_from_file: failed to open GGUF file '/nope/x.gguf' (No such file or directory)": (
        "failed to open GGUF file <path> (No such file or directory)"
    ),
    "llama_model_load: error loading model: failed to open x.gguf: No such file or directory": (
        "error loading model: failed to open <path>: No such file or directory"
    ),
    "alloc_tensor_range: failed to allocate CPU buffer of size 2048": (
        "failed to allocate CPU buffer of size <number>"
    ),
    "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 6144.00 MiB on device 0: "
    "cudaMalloc failed: out of memory": "allocating <size> on device <number>: cudaMalloc failed: out of memory",
    "llama_model_load: error loading model: unable to allocate CUDA0 buffer": (
        "error loading model: unable to allocate CUDA0 buffer"
    ),
    "./src/llama-context.cpp:2384: GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max) failed": (
        "llama-context.cpp:<number>: GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max) failed"
    ),
    "/opt/llama.cpp/ggml/src/ggml-cuda/ggml-cuda.cu:110: CUDA error": "ggml-cuda.cu:<number>: CUDA error",
    "CUDA error at C:\\llama\\ggml-cuda.cu:110": "CUDA error at ggml-cuda.cu:<number>",
    "tensor 'blk.12.attn_q.weight' data is not within the file bounds": (
        "tensor 'blk.<number>.attn_q.weight' data is not within the file bounds"
    ),
    "0.00.009.858 E srv         start: couldn't bind HTTP server socket, hostname: 10.9.8.7, port: 8134": (
        "couldn't bind HTTP server socket, hostname: <number>, port: <number>"
    ),
    "it used 5.1 GiB, 0.2 GiB of 15.6 GiB were free just before": (
        "it used <size>, <size> of <size> were free just before"
    ),
    "fault at 0x7ffd10 in GPU-8a1bd1c2-0d6b-4f6e-9f1e-6f2a1b3c4d5e of commit ff5ef8278": (
        "fault at <id> in GPU-<id> of commit <id>"
    ),
    "a  b\tc": "a b c",
    "": "",
}


@pytest.mark.parametrize(("line", "common"), SAID.items())
def test_a_line_is_reduced_to_what_lines_of_its_cause_share(line, common):
    assert likeness(line) == common
    assert likeness(common) == common


def test_different_causes_stay_apart():
    told = {
        (kind, likeness(line))
        for line, kind, _ in DECISIVE
        if "open" not in line and "buffer of size" not in line
    }
    lines = [line for line, _, _ in DECISIVE if "open" not in line and "buffer of size" not in line]
    assert len(told) == len(lines)


def test_the_line_of_another_process_later_on_is_alike():
    first = "0.00.025.000 E alloc_tensor_range: failed to allocate CPU buffer of size 5476083302"
    later = "7.11.000.125 E alloc_tensor_range: failed to allocate CPU buffer of size 1476"
    assert likeness(first) == likeness(later)


def test_a_runaway_line_is_cut():
    assert len(likeness("x" * 5000)) == LONGEST


def test_kind_line_and_model_make_the_key():
    keys = [
        key_of("exited", "a 1", "m.gguf"),
        key_of("unknown", "a 1", "m.gguf"),
        key_of("exited", "b 1", "m.gguf"),
        key_of("exited", "a 1", "n.gguf"),
    ]
    assert all(first != second for first, second in combinations(keys, 2))
    assert key_of("exited", "a 2", "m.gguf") == keys[0]
    assert {len(key) for key in keys} == {32}


@pytest.mark.parametrize(
    ("argv", "model"),
    [
        (["llama-server", "-m", "/srv/models/qwen3.gguf", "-c", "8192"], "qwen3.gguf"),
        (["llama-server", "--model", "qwen3-00001-of-00003.gguf"], "qwen3.gguf"),
        (["llama-server", "-m", "a.gguf", "-m", "b.gguf"], "b.gguf"),
        (["llama-server", "-m", "C:\\models\\q.gguf"], "q.gguf"),
        (["llama-server", "-hf", "ggml-org/gemma-3-4b-it-GGUF:Q4_0"], "ggml-org/gemma-3-4b-it-GGUF:Q4_0"),
        (["llama-server", "--models-dir", "/srv/models"], ""),
        (["llama-server", "-m"], ""),
        ([], ""),
    ],
)
def test_the_model_is_that_of_the_command_line(argv, model):
    assert named_model(argv) == model
