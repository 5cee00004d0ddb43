"""Does it compute where it was told to?"""

from __future__ import annotations

import pytest

from supervisor_app.core.diagnosis.fallback import gpu_warnings

NO_GPU = "warning: no usable GPU found, --gpu-layers option will be ignored"
NONE_OFFLOADED = "0.01.200.000 I load_tensors: offloaded 0/33 layers to GPU"
ALL_OFFLOADED = "0.01.200.000 I load_tensors: offloaded 33/33 layers to GPU"
ASKED = ("-m", "m.gguf", "-ngl", "99")


def test_no_usable_gpu_is_a_warning():
    assert gpu_warnings(["x", NO_GPU], ASKED) == (
        "It computes on the CPU: llama-server found no usable GPU, so -ngl is ignored.",
    )


def test_the_flag_for_gpu_layers_may_be_spelled_with_underscores():
    assert gpu_warnings([NO_GPU], ("--gpu_layers", "99"))


def test_no_layer_on_the_gpu_is_a_warning():
    (warning,) = gpu_warnings([NONE_OFFLOADED, NO_GPU], ASKED)
    assert "0 of 33 layers" in warning


@pytest.mark.parametrize(
    "line", [ALL_OFFLOADED, "offloaded 0/0 layers to GPU", "offloaded 20/33 layers to GPU"]
)
def test_layers_on_the_gpu_are_none(line):
    assert gpu_warnings([line], ASKED) == ()


@pytest.mark.parametrize(
    "args",
    [
        ("-m", "m.gguf"),
        ("-ngl", "0"),
        ("--gpu-layers", "auto"),
        ("-ngl", "99", "--n-gpu-layers", "0"),
        ("-ngl",),
    ],
)
def test_a_server_that_needs_no_gpu_is_not_warned_about_it(args):
    assert gpu_warnings([NO_GPU, NONE_OFFLOADED], args) == ()


@pytest.mark.parametrize("asked", ["1", "all", "-1"])
def test_a_server_that_asked_for_a_gpu_is_warned(asked):
    assert gpu_warnings([NO_GPU], ("--gpu-layers", asked))
