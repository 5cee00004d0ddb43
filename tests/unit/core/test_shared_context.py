"""The context that slots share, as command lines and variables say it."""

from __future__ import annotations

import pytest

from supervisor_app.core.command_line.shared_context import ContextFlags, context_flags
from supervisor_app.core.sightings import Slot


def flags(line, **environment):
    return context_flags(line.split(), environment)


def shared(line, **environment):
    return flags(line, **environment).is_shared


@pytest.mark.parametrize(
    "line", ["", "-c 1024", "-np -1", "-np 4 -kvu", "--parallel 4 --kv_unified", "-np 2 -np -1", "-no-kvu"]
)
def test_slots_whose_number_llama_server_chooses_share_the_context_as_do_those_that_are_to(line):
    assert shared(line)


@pytest.mark.parametrize(
    "line",
    ["-np 4", "--parallel 1", "-kvu -np 4 -no-kvu", "-np 4 --kv-unified --no-kv-unified", "-np -1 -np 2"],
)
def test_slots_of_a_number_that_people_chose_have_a_context_each_and_of_flags_the_last_one_counts(line):
    assert not shared(line)


def test_variables_count_where_no_flag_says_otherwise():
    assert not shared("", LLAMA_ARG_N_PARALLEL="4")
    assert shared("-np 4", LLAMA_ARG_KV_UNIFIED="on")
    assert shared("-np -1", LLAMA_ARG_N_PARALLEL="4")
    assert not shared("-np 4", LLAMA_ARG_KV_UNIFIED="false")
    assert not shared("-np 4 --no-kv-unified", LLAMA_ARG_KV_UNIFIED="1")
    assert not shared("-np 4", LLAMA_ARG_KV_UNIFIED="1", LLAMA_ARG_NO_KV_UNIFIED="")
    assert flags("", LLAMA_ARG_CTX_SIZE="512").size == 512
    assert flags("--ctx-size 1024", LLAMA_ARG_CTX_SIZE="512") == ContextFlags(size=1024)


def test_a_value_that_is_missing_or_no_number_says_nothing():
    assert flags("-np many -c") == ContextFlags()


def told(line, *sizes):
    slots = [Slot(id=number, size=size) for number, size in enumerate(sizes)]
    return {slot.shared for slot in flags(line).told_of(slots)}


@pytest.mark.parametrize(
    ("line", "sizes", "whole"),
    [
        ("-c 1024", (1024,) * 4, 1024),
        ("-c 1000", (1024,) * 4, 1024),  # rounded up by llama-server
        ("", (8192,) * 4, 8192),
        ("-c 16384", (8192,) * 4, 16384),  # a slot gets no more than its model was trained for
        ("-c 65536", (8192,) * 4, 32768),  # nobody can use more
        ("-np 3 -kvu --kv-unified-per-slot 512", (512,) * 3, 1536),
        ("-np 3 -kvu --kv-unified-per-slot 512 -c 1024", (512,) * 3, 1024),
        ("-np 1 -c 1024 -kvu", (1024,), 0),
        ("-np 4 -c 4096", (1024,) * 4, 0),
    ],
)
def test_slots_are_told_the_size_of_what_they_share(line, sizes, whole):
    assert told(line, *sizes) == {whole}


def test_a_server_that_tells_no_slots_has_none():
    assert flags("-c 1024").told_of(()) == ()
