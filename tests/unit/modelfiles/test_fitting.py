"""Does a model fit? The planner's answer, on a machine without our servers."""

from __future__ import annotations

import pytest

from supervisor_app.core.devices import Device
from supervisor_app.core.memory_rules import MemoryRules
from supervisor_app.core.placement.world import Need, Source
from supervisor_app.modelfiles.fitting import fit_of, fit_of_size

GIB = 2**30
HOST = Device(id="host", name="Host", total=64 * GIB, free=40 * GIB)
GPU = Device(id="GPU-0", name="GPU 0: RTX 4090", total=24 * GIB, free=2 * GIB, ours=22 * GIB)
RULES = MemoryRules(reserve_mb=1024)


def need(source=Source.ESTIMATED, **gib):
    names = {"gpu": "GPU-0", "host": "host"}
    return Need(devices={names[name]: round(count * GIB) for name, count in gib.items()}, source=source)


def test_memory_of_our_servers_counts_as_free():
    fit = fit_of("a", need(gpu=20, host=1), [HOST, GPU], RULES, "with -c 8192")
    assert fit.fits is True
    assert fit.sentence == (
        "Needs about 20 GiB of 23.0 GiB on GPU 0 and about 1.0 GiB of 39.0 GiB on the host"
        " (estimated) with -c 8192."
    )


def test_a_measured_need_is_told_as_such():
    assert fit_of("a", need(Source.MEASURED, gpu=20), [GPU], RULES).sentence == (
        "Needs 20.0 GiB of 23.0 GiB on GPU 0 (measured)."
    )


def test_a_model_that_is_too_large_gets_the_planners_own_sentence():
    fit = fit_of("big", need(Source.MEASURED, gpu=30), [HOST, GPU], RULES)
    assert fit.fits is False
    assert fit.sentence == "`big` needs 30.0 GiB on GPU 0. Free are 23.0 GiB."


def test_an_estimate_that_is_a_little_too_large_leaves_it_open():
    fit = fit_of("a", need(gpu=24), [HOST, GPU], RULES)
    assert fit.fits is None
    assert "Estimates may be wrong" in fit.sentence


@pytest.mark.parametrize(("devices", "known"), [([], need(gpu=1)), ([GPU], need())])
def test_without_a_look_at_the_machine_or_the_model_nothing_is_said(devices, known):
    assert fit_of("a", known, devices, RULES).sentence == ""


@pytest.mark.parametrize(
    ("gib", "devices", "fits", "words"),
    [
        (10, [HOST, GPU], True, "Needs about 11 GiB (by its size). GPUs can have 23.0 GiB."),
        (30, [HOST, GPU], True, "a part of it would compute on the host, slowly."),
        (30, [HOST], True, "The host can have 39.0 GiB."),
        (56.55, [HOST, GPU], False, "Needs about 62.21 GiB (by its size). This node can have 62.00 GiB."),
        (90, [HOST, GPU], False, "Needs about 99 GiB (by its size). This node can have 62.0 GiB."),
    ],
)
def test_a_model_that_is_not_here_is_guessed_by_its_size(gib, devices, fits, words):
    fit = fit_of_size(gib * GIB, devices, RULES)
    assert fit.fits is fits
    assert words in fit.sentence


def test_nothing_is_guessed_without_a_size_or_a_machine():
    assert fit_of_size(0, [HOST], RULES) == fit_of_size(5, [], RULES)
