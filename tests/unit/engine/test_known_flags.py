"""Flags that an engine knows: read from its help, and compared with what people type."""

from __future__ import annotations

import shutil

import pytest

from supervisor_app.engine.flags import HARMLESS, OF_OTHER_BUILDS
from supervisor_app.engine.known_flags import flags_in, flags_of, unknown_flags

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
    known = flags_of([shutil.which("llama-server") or ""])
    assert known >= HARMLESS - OF_OTHER_BUILDS


def test_an_engine_that_cannot_be_asked_knows_nothing(tmp_path):
    assert flags_of([str(tmp_path / "nowhere")]) == flags_of([]) == flags_of([str(tmp_path)]) == frozenset()


def test_an_engine_that_could_not_be_run_is_asked_again(tmp_path):
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho '--ctx-size N'\n")
    assert flags_of([str(program)]) == frozenset()
    program.chmod(0o755)  # which leaves the time of its content as it was
    assert flags_of([str(program)]) == {"--ctx-size"}
