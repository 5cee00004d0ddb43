"""Flags that have fields of their own: read from arguments, written to them, and nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_app.core.command_line.plain import PLAIN, read_plain, write_plain

REST = ["--jinja", "-fa", "on"]


@pytest.mark.parametrize(
    ("args", "fields", "rest"),
    [
        ([], {}, []),
        (["-c", "8192", *REST, "-np", "4", "-ngl", "99"], ("8192", "4", "99"), REST),
        (["--ctx-size", "0", "--parallel", "1", "--n-gpu-layers", "all"], ("0", "1", "all"), []),
        (["--ctx_size=8192", "--gpu_layers", "auto"], {"context": "8192", "gpu_layers": "auto"}, []),
        (["-c", "1", "-c", "2"], {"context": "2"}, []),
        (["-ngl", "-1"], {"gpu_layers": "-1"}, []),
        (["-c", "many", "--jinja"], {}, ["-c", "many", "--jinja"]),
        (["-np", "-1", "--ctx-size="], {}, ["-np", "-1", "--ctx-size="]),
        (["--jinja", "-c"], {}, ["--jinja", "-c"]),
        (["-cb", "-ctk", "q8_0"], {}, ["-cb", "-ctk", "q8_0"]),
    ],
)
def test_arguments_are_taken_apart(args, fields, rest):
    expected = fields if isinstance(fields, dict) else dict(zip(NAMES, fields, strict=True))
    assert read_plain(args) == (expected, rest)


NAMES = [flag.field for flag in PLAIN]


def test_fields_are_written_before_the_other_arguments_and_an_empty_one_is_not():
    fields = {"gpu_layers": "99", "context": "8192", "slots": ""}
    assert write_plain(fields, REST) == ["-c", "8192", "-ngl", "99", *REST]


def test_arguments_that_say_the_same_stay_as_they_are():
    before = ["--jinja", "--ctx-size", "8192", "-fa", "on"]
    assert write_plain({"context": "8192"}, REST, before) == before
    assert write_plain({"context": "4096"}, REST, before) == ["-c", "4096", *REST]


def test_a_spelling_that_the_engine_does_not_take_is_mended():
    assert write_plain({"context": "8192"}, [], ["--ctx-size=8192"]) == ["-c", "8192"]


PARTS = [
    *(["-c", "8192"], ["--ctx-size", "1"], ["-c", "many"], ["-np", "4"], ["-np", "0"]),
    *(["-ngl", "all"], ["--jinja"], ["-ctk", "q8_0"]),
]


@given(st.lists(st.sampled_from(PARTS)))
def test_fields_are_written_so_that_they_are_read_again(parts):
    args = [word for part in parts for word in part]
    assert read_plain(write_plain(*read_plain(args))) == read_plain(args)
    assert write_plain(*read_plain(args), args) == args
