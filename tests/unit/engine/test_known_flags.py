"""Flags that an engine knows: read from its help, and compared with what people type."""

from __future__ import annotations

import shutil
import sys

import pytest

from supervisor_app.engine import asking
from supervisor_app.engine.flags import HARMLESS, OF_OTHER_BUILDS
from supervisor_app.engine.known_flags import (
    RETRY_SECONDS,
    FlagSource,
    KnownFlags,
    flags_in,
    flags_of,
    unknown_flags,
)
from supervisor_app.engine.launcher import FLAGS, SWITCHES
from supervisor_app.engine.resolve import LAUNCHER

HELP = """\
----- common params -----

-c,    --ctx-size N                     size of the prompt context (default: 0)
                                        (env: LLAMA_ARG_CTX_SIZE), see --not-this
-ngl,  --gpu-layers, --n-gpu-layers N   layers to store in VRAM
--poll <0...100>                        use polling level
"""
KNOWN = {"-c", "--ctx-size", "-ngl", "--gpu-layers", "--n-gpu-layers", "--poll"}


def test_a_help_lists_flags_at_the_beginning_of_its_lines():
    assert flags_in(HELP) == KNOWN


@pytest.mark.parametrize("args", [["-c", "8"], ["--ctx_size", "8"], ["--poll", "-1"], []])
def test_a_known_flag_is_no_mistake(args):
    assert unknown_flags(args, KNOWN) == []


def test_an_unknown_flag_is_told_with_its_nearest_neighbour():
    assert unknown_flags(["--ctx-sise", "8", "--zzz"], KNOWN) == [
        "This llama-server knows no --ctx-sise. Did you mean --ctx-size?",
        "This llama-server knows no --zzz. llama-server --help lists those that it knows.",
    ]


@pytest.mark.engine
def test_a_real_engine_knows_the_flags_that_a_form_may_set():
    known = flags_of([shutil.which("llama-server") or ""], {})
    assert known.flags >= HARMLESS - OF_OTHER_BUILDS


def test_the_bundled_engine_lists_the_flags_that_it_takes():
    known = FlagSource()((sys.executable, "-I", str(LAUNCHER)), {}).flags
    assert known == {
        *(name for flag in FLAGS for name in flag.names),
        *(name for switch in SWITCHES for name in (*switch.on, *switch.off)),
    }


class Engine:
    """A script in the place of an engine, which notes each time that it is run."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "llama-server"
        self.now = 0.0
        self.ask = FlagSource(clock=lambda: self.now)
        self.does("echo '-c, --ctx-size N'")

    def does(self, *lines):
        self.path.write_text("\n".join(["#!/bin/sh", f"echo x >> {self.folder}/asked", *lines, ""]))
        self.path.chmod(0o755)

    @property
    def times(self):
        asked = self.folder / "asked"
        return len(asked.read_text().split()) if asked.exists() else 0

    def __call__(self, **environment):
        return self.ask([str(self.path)], environment)


@pytest.fixture
def engine(tmp_path):
    return Engine(tmp_path)


def test_an_engine_is_asked_once_until_it_is_another_program(engine):
    assert engine().flags == engine().flags == {"-c", "--ctx-size"}
    assert engine.times == 1
    engine.does("echo '--other'")
    assert engine().flags == {"--other"}


def test_an_engine_is_asked_with_the_variables_of_its_server(engine):
    engine.does('echo "--has-$PLACE"')
    assert [engine(PLACE=place).flags for place in ("a", "b")] == [{"--has-a"}, {"--has-b"}]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["echo 'libcuda.so.1: cannot open' >&2", "exit 127"], 'it says "libcuda.so.1: cannot open"'),
        (["exit 1"], "it says nothing"),
    ],
)
def test_an_engine_that_does_not_tell_is_a_sentence_and_asked_again_later(engine, lines, told):
    engine.does(*lines)
    problem = f"Flags are not checked: {engine.path} does not tell them ({told})."
    assert engine() == engine() == KnownFlags(problem=problem)
    assert engine.times == 1
    engine.now += RETRY_SECONDS
    assert engine() == KnownFlags(problem=problem)
    assert engine.times == 2


def test_an_engine_that_hangs_is_a_sentence(engine, monkeypatch):
    monkeypatch.setattr(asking, "PATIENCE", 0.05)
    engine.does("exec sleep 60")
    assert "(no answer within 0.05 seconds)" in engine().problem


def test_an_engine_that_cannot_be_run_is_a_sentence_and_asked_again_once_it_can(engine, tmp_path):
    engine.path.chmod(0o644)
    assert "(Permission denied)" in engine().problem
    engine.path.chmod(0o755)
    assert engine().flags == {"-c", "--ctx-size"}
    assert "(No such file or directory)" in engine.ask([str(tmp_path / "nowhere")], {}).problem
