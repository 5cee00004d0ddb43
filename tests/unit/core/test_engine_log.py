"""Which lines of a log are llama-server's own words, and which are echoes of clients. Lines as b11669 wrote them."""

from __future__ import annotations

import json

import pytest

from supervisor_app.core.diagnosis.diagnose import diagnose
from supervisor_app.core.diagnosis.engine_log import read_log
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import FailureKind

CRASHED = Exit(signal=11)
SERVING = [
    "0.00.015.923 I srv  llama_server: listening on http://127.0.0.1:18777",
    "0.01.647.100 I slot launch_slot_: id  0 | task 0 | processing task, is_child = 0",
]
WORDS = "CUDA error: out of memory"
INVALID_JSON = (
    '0.01.648.000 W srv    operator(): got exception: {"error":{"code":400,"message":'
    "\"[json.exception.parse_error.101] parse error at line 1, column 14: last read: '%s'\"}}"
)
# A grammar is printed as it is, with its line breaks, twice.
GRAMMAR = [
    "parse: error parsing grammar: expecting ::= at error: out of memory",
    "GGML_ASSERT(x) failed",
    "",
    "CUDA error: out of memory",
    "ggml.c:1: GGML_ASSERT(x) failed",
    "terminate called after throwing an instance of 'std::runtime_error'",
    "  what():  std::bad_alloc",
]
REFUSED = "0.01.649.219 E srv    send_error: task id = 0, error: Failed to initialize samplers"


@pytest.mark.parametrize(
    ("line", "message", "level", "stamp"),
    [
        ("0.00.031.945 E gguf_init_from_file: failed", "failed", "E", 31_945),
        ("1.02.000.001 W srv         start: x", "x", "W", 62_000_001),
        ("E gguf_init_from_file: failed", "failed", "E", None),
        ("srv    load_model: loading model 'x'", "loading model 'x'", "", None),
        ("\x1b[34m0.00.005.319\x1b[0m \x1b[31mE \x1b[0msrv  a: b", "b", "E", 5_319),
        ('{"type":"log","time":11385,"level":"error","msg":"gguf_init: failed\\n"}', "failed", "E", 11_385),
        ('{"type":"log","time":1,"level":"warn","msg":"srv  op: a\\nCUDA error: b\\n"}', "a", "W", 1),
        ('{"type":"log","time":1,"level":"fatal","msg":"a"}', "a", "", 1),
        ('{"type":"log","time":1e400,"level":"error","msg":"a"}', None, "", None),
        ('{"type":"log","time"', '{"type":"log","time"', "", None),
        ("CUDA error: out of memory", "CUDA error: out of memory", "", None),
    ],
)
def test_a_line_is_read_however_flags_shape_it(line, message, level, stamp):
    (read,) = read_log([line])
    assert (read.message, read.level, read.stamp) == (message or line, level, stamp)


def test_lines_of_a_routers_children_are_not_its_own():
    lines = [
        "0.01.055.634 I srv          join: request for name=bad queued at position 1",
        "[42265] 0.00.010.182 E gguf_init_from_reader: invalid magic characters: '?8?^', expected 'GGUF'",
        "[42265] ggml.c:1: GGML_ASSERT(x) failed",
        "[42265]",
        '{"type":"log","time":11385,"level":"info","msg":"[42265] CUDA error: x\\n"}',
        "0.01.125.347 I srv           run: instance name=bad exited with status 1",
    ]
    assert [line.number for line in read_log(lines)] == [0, 5]
    assert diagnose(CRASHED, lines, was_ready=True).decisive is None


def test_an_echo_in_a_line_decides_nothing():
    lines = [*SERVING, INVALID_JSON % WORDS, INVALID_JSON % "GGML_ASSERT("]
    assert diagnose(CRASHED, lines, was_ready=True).decisive is None


def test_an_echo_over_several_lines_decides_nothing():
    assert diagnose(CRASHED, [*SERVING, *GRAMMAR, REFUSED], was_ready=True).decisive is None


@pytest.mark.parametrize("how", [slice(0, None), slice(13, None), slice(15, None)])
@pytest.mark.parametrize("killed_at_once", [False, True])
def test_an_echo_without_stamps_or_at_the_end_is_no_last_word(how, killed_at_once):
    """It prints a grammar at once, and its own lines a moment later."""
    lines = [line[how] for line in SERVING] + GRAMMAR + ([] if killed_at_once else [REFUSED[how]])
    assert diagnose(CRASHED, lines, was_ready=True).decisive is None
    assert diagnose(CRASHED, lines[2:], was_ready=True).decisive is None


@pytest.mark.parametrize("how", [slice(0, None), slice(13, None), slice(15, None)])
def test_the_last_words_of_a_server_decide_however_its_lines_look(how):
    last = "ggml.c:1: GGML_ASSERT(x) failed"
    lines = [line[how] for line in SERVING] + [last, "[New LWP 13300]"]
    assert diagnose(CRASHED, lines, was_ready=True).decisive.text == last
    own = "0.01.648.500 E CUDA error: unspecified launch failure"[how]
    assert diagnose(CRASHED, [*lines[:2], own, *lines[2:]], was_ready=True).decisive.text == last


def test_the_last_decisive_line_of_another_programs_log_counts():
    lines = ["INFO [launch_slot] slot is processing", "CUDA error: out of memory", "bye"]
    assert diagnose(CRASHED, lines, was_ready=True).decisive.text == lines[1]


def test_the_rest_of_an_open_quote_is_no_last_word():
    """One that a client opened, and then had it crash."""
    opened = "0.01.650.000 W common_sampler_types_from_names: unable to match sampler by name 'x"
    forged = "ggml.c:1: GGML_ASSERT(x) failed"
    assert diagnose(CRASHED, [*SERVING, opened, forged], was_ready=True).decisive is None
    bare = [line[13:] for line in [*SERVING, opened]]
    assert diagnose(CRASHED, [*bare, "E CUDA error: x", "'"], was_ready=True).decisive is None


def test_lines_about_the_time_of_a_request_are_harmless():
    times = ["prompt eval time =      24.80 ms /     1 tokens", "total time =  1 ms"]
    lines = [*SERVING, *times, "0.01.648.500 E CUDA error: unspecified launch failure"]
    assert diagnose(CRASHED, lines, was_ready=True).failure.kind is FailureKind.GPU_LOST


@pytest.mark.parametrize("stamp", ["0.01.000.000", "0.01.900.000", "9999.00.000.000"])
def test_a_stamp_that_does_not_fit_is_forged(stamp):
    forged = f"{stamp} E CUDA error: out of memory"
    lines = [*SERVING, "parse: error parsing grammar: x", forged, REFUSED]
    assert diagnose(CRASHED, lines, was_ready=True).decisive is None
    forged_last = [*SERVING, "parse: error parsing grammar: x", forged]
    assert diagnose(CRASHED, forged_last, was_ready=True).decisive is None
    assert diagnose(CRASHED, [*SERVING, forged, REFUSED], was_ready=True).decisive is None


def test_many_forged_stamps_are_no_better():
    forged = [f"0.0{second}.000.000 E CUDA error: out of memory" for second in range(10)]
    lines = [*SERVING, "parse: error parsing grammar: x", *forged, REFUSED]
    assert diagnose(CRASHED, lines, was_ready=True).decisive is None


def test_a_stamp_where_llama_server_writes_none_is_forged():
    forged = "0.01.900.000 E CUDA error: out of memory"
    lines = [line[13:] for line in SERVING] + ["parse: error parsing grammar: x", forged, REFUSED[13:]]
    assert diagnose(CRASHED, lines, was_ready=True).decisive is None


def test_the_rest_of_a_debug_message_is_no_last_word():
    lines = [*SERVING, "0.01.650.000 D srv    operator(): Grammar (): x", "ggml.c:1: GGML_ASSERT(x) failed"]
    assert diagnose(CRASHED, lines, was_ready=True).decisive is None


def test_the_servers_own_error_among_other_lines_decides():
    lines = [*SERVING, "0.01.648.500 E CUDA error: unspecified launch failure", *GRAMMAR[:2], REFUSED]
    assert diagnose(CRASHED, lines, was_ready=True).failure.kind is FailureKind.GPU_LOST


def test_the_servers_last_words_decide_although_they_have_no_stamp():
    lines = [
        *SERVING,
        "./src/llama-context.cpp:2384: GGML_ASSERT(n <= m) failed",
        "[New LWP 13300]",
        "#0 0x0",
    ]
    assert "GGML_ASSERT(n <= m)" in diagnose(CRASHED, lines, was_ready=True).failure.detail


def test_a_line_that_says_itself_that_it_is_no_error_decides_nothing():
    for level in "IWD":
        line = f"0.01.648.500 {level} CUDA error: unspecified launch failure"
        assert diagnose(CRASHED, [*SERVING, line], was_ready=True).decisive is None


def test_a_line_of_json_that_is_nested_deeply_is_none():
    line = '{"type":"log","time":1,"level":"error","msg":' + "[" * 100_000
    assert read_log([line])[0].stamp is None
    assert read_log([json.dumps({"type": "log"}, separators=(",", ":"))])[0].stamp is None
