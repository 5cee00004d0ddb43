"""Why a program could not be started, in words that are true of what lies on the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from supervisor_app.core.diagnosis.explanations import CANNOT_RUN
from supervisor_app.core.diagnosis.spawn_failure import (
    Program,
    look_at_program,
    why_no_engine,
    why_not_started,
)
from supervisor_app.core.status import FailureKind

CWD = Path("/srv")
THERE = Program(path=Path("/opt/llama-server"), exists=True)
ABSENT = Program(path=Path("/opt/llama-server"))
SCRIPT = Program(path=Path("/opt/run"), exists=True, interpreter="/nope/python3")


def why(number, program, filename="/opt/llama-server"):
    return why_not_started(OSError(number, os.strerror(number), filename), program, CWD)


def test_a_program_that_is_not_there_is_not_found():
    failure = why(errno.ENOENT, ABSENT)
    assert (failure.kind, failure.title) == (FailureKind.BINARY_MISSING, "llama-server not found")
    assert failure.detail == "/opt/llama-server: No such file or directory"
    assert failure.file == "/opt/llama-server"


def test_a_script_without_its_interpreter_is_there():
    failure = why(errno.ENOENT, SCRIPT)
    assert (failure.kind, failure.title) == (FailureKind.BINARY_MISSING, CANNOT_RUN)
    assert failure.detail == "/opt/run is a script for /nope/python3, which does not exist"
    assert failure.file == "/nope/python3"
    assert failure.permanent


def test_a_script_from_windows_is_told_as_such():
    failure = why(errno.ENOENT, Program(path=Path("/opt/run"), exists=True, interpreter="/bin/sh\r"))
    assert failure.detail == "/opt/run is a script whose lines end as on Windows"


def test_a_program_for_another_system_is_there():
    failure = why(errno.ENOENT, THERE)
    assert "not the loader" in failure.detail
    assert failure.file == "/opt/llama-server"


def test_the_folder_to_start_in_may_be_what_is_missing():
    failure = why(errno.ENOENT, THERE, "/srv")
    assert "the folder /srv" in failure.detail
    assert failure.file == "/srv"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "may not be run"),
        (errno.EPERM, "does not permit"),
        (errno.ENOEXEC, "no program for this machine"),
        (errno.ELOOP, "in a circle"),
    ],
)
def test_errors_of_the_system_at_a_start_are_explained(number, words):
    failure = why(number, THERE)
    assert (failure.kind, failure.title) == (FailureKind.BINARY_MISSING, CANNOT_RUN)
    assert words in failure.detail
    assert failure.permanent
    assert failure.file == "/opt/llama-server"


def test_a_command_line_that_is_too_long_is_a_matter_of_its_flags():
    failure = why(errno.E2BIG, THERE)
    assert (failure.kind, failure.permanent) == (FailureKind.BAD_ARGUMENT, True)
    assert "longer than this system allows" in failure.detail


def test_a_program_that_is_being_installed_is_tried_again():
    failure = why(errno.ETXTBSY, THERE)
    assert (failure.title, failure.permanent) == (CANNOT_RUN, False)
    assert "is being written to" in failure.detail


def test_an_unknown_error_at_a_start_is_told_as_it_is():
    failure = why(errno.EIO, THERE)
    assert (failure.kind, failure.detail) == (FailureKind.UNKNOWN, "/opt/llama-server: Input/output error")


# The look


@pytest.mark.parametrize(
    ("content", "interpreter", "exists"),
    [
        (b"\x7fELF", "", False),
        (b"#!/bin/sh\nexit 1\n", "/bin/sh", True),
        (b"#! /nope/python3 -u\n", "/nope/python3", False),
        (b"#!\n", "", False),
        (b"#!\t/bin/sh\r\n", "/bin/sh\r", False),
        (b"#!/\xff\n", "/\ufffd", False),
    ],
)
def test_a_script_names_its_interpreter(tmp_path, content, interpreter, exists):
    (tmp_path / "run").write_bytes(content)
    program = look_at_program("./run", tmp_path)
    assert (program.exists, program.interpreter, program.interpreter_exists) == (True, interpreter, exists)


def test_a_program_is_looked_for_as_the_system_does(tmp_path):
    assert look_at_program("sh", tmp_path).path.is_absolute()
    assert look_at_program("sh", tmp_path).exists
    assert look_at_program("no-such-program", tmp_path) == Program(path=tmp_path / "no-such-program")
    assert look_at_program(str(tmp_path), tmp_path).exists


def test_an_engine_that_is_named_and_not_described_is_told_with_what_would_help():
    failure = why_no_engine("chat is to run on the engine x", "Install one.")
    assert (failure.kind, failure.permanent) == (FailureKind.BINARY_MISSING, True)
    assert (failure.title, failure.detail) == (
        "Its engine is not described",
        "chat is to run on the engine x",
    )
    assert "choose another engine" in failure.hint
    assert why_no_engine("", "Install one.").detail == "Install one."
