"""Memory as llama-server and llama-fit-params tell it.

The logs of `told/` are those of llama-server b11669 on a machine without a GPU, without lines that tell nothing
of memory. Lines about GPUs are quoted from llama.cpp's issues, as the tests say.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor_app.core.devices import HOST
from supervisor_app.core.diagnosis.told_memory import MIB, Accelerator, told_by_fit_params, told_by_log

LOGS = Path(__file__).with_name("told")
LOADED = "0.01.000.000 I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 4096, kv_unified = 'true'"


def log(name):
    return (LOGS / f"{name}.log").read_text().splitlines()


def written(*messages):
    """A log of these messages, stamped as llama-server does it, of a server that has loaded."""
    stamped = [f"0.00.{number:03}.000 I {message}" for number, message in enumerate(messages)]
    return [*stamped, LOADED]


def mib(told):
    return {device: round(count / MIB, 2) for device, count in told.devices.items()}


@pytest.mark.parametrize(
    ("name", "sum_of"),
    [
        ("wide4", (118.52, 0.49, 32.00, 33.02)),
        ("widev", (118.52, 0.49, 32.00, 33.02)),
        ("draft4", (5.24, 0.02, 4.00, 9.52, 1.62, 0.02, 4.00, 6.77)),
    ],
)
def test_a_log_tells_the_buffers_of_all_models_and_not_those_of_a_trial(name, sum_of):
    assert mib(told_by_log(log(name))) == {HOST: pytest.approx(sum(sum_of), abs=0.01)}


def test_buffers_of_gpus_are_told_by_the_names_of_the_engine():
    told = told_by_log(  # sizes of ollama/ollama#16031
        written(
            "llama_prepare_model_devices: using device CUDA0 (NVIDIA GeForce RTX 4080) (0000:01:00.0) - 15074 MiB free",
            "llama_prepare_model_devices: using device CUDA1 (Tesla P40) - 24000 MiB free",
            "load_tensors:   CPU_Mapped model buffer size =   304.28 MiB",
            "load_tensors:        CUDA0 model buffer size =   974.88 MiB",
            "load_tensors:        CUDA1 model buffer size =  1401.03 MiB",
            "llama_context: constructing llama_context",
            "llama_context:  CUDA_Host  output buffer size =     0.58 MiB",
            "llama_kv_cache:      CUDA0 KV buffer size =   512.00 MiB",
            "llama_memory_recurrent:      CUDA1 RS buffer size =   149.62 MiB",
            "sched_reserve:      CUDA0 compute buffer size =   400.00 MiB",
            "sched_reserve:      CUDA0 compute buffer size =   138.02 MiB",
            "sched_reserve:      CUDA1 compute buffer size =   100.00 MiB",
            "sched_reserve:  CUDA_Host compute buffer size =    24.01 MiB",
        )
    )
    assert mib(told) == {"CUDA0": 1624.9, "CUDA1": 1650.65, HOST: 328.87}
    assert told.accelerators == {
        "CUDA0": Accelerator(name="NVIDIA GeForce RTX 4080", address="0000:01:00.0"),
        "CUDA1": Accelerator(name="Tesla P40"),
    }


def test_the_projector_of_pictures_counts_where_it_computes():
    told = told_by_log(
        written(
            "srv    load_model: [mtmd] estimated worst-case memory usage of mmproj is 1130.63 MiB (took 32.83 ms)",
            "load_tensors:        CUDA0 model buffer size =  1000.00 MiB",
            "sched_reserve:      CUDA0 compute buffer size =   100.00 MiB",
            "clip_ctx: CLIP using CUDA0 backend",
        )
    )
    assert mib(told) == {"CUDA0": 2230.63}


INITIAL = "common_params_fit_impl: getting device memory data for initial parameters:"
HEAD = "common_memory_breakdown_print: | memory breakdown [MiB] | total free self model context compute unaccounted |"
CARD = (
    "common_memory_breakdown_print: |   - CUDA0 (RTX 3090)   |"
    " 24124 = 23860 + (15946 = 15364 +     411 +     170) +      -15681 |"
)  # ollama/ollama#17482
NESTED = (
    "common_memory_breakdown_print: |   - Vulkan0 (AMD Radeon RX 6800 (RADV NAVI21)) |"
    " 16368 = 15507 + ( 133 =    60 +      54 +      19) + 17592186036877 |"
)
HOST_ROW = (
    "common_memory_breakdown_print: |   - Host  |                    804 =   682 +       0 +     122       |"
)
UNCHANGED = "common_params_fit_impl: will leave 7914 >= 1024 MiB of free device memory, no changes needed"


def test_without_buffers_the_table_of_the_first_parameters_counts():
    told = told_by_log(written(INITIAL, HEAD, CARD, NESTED, HOST_ROW, UNCHANGED))
    assert mib(told) == {"CUDA0": 15946, "Vulkan0": 133, HOST: 804}


def test_a_table_of_parameters_that_were_changed_tells_nothing():
    reduced = "common_params_fit_impl: context size reduced from 262144 to 30000"
    assert told_by_log(written(INITIAL, HEAD, CARD, HOST_ROW, reduced)) is None


def test_at_the_usual_verbosity_nothing_is_told():
    assert told_by_log(["0.00.030.735 I srv    load_model: loading model 'demo.gguf'", LOADED]) is None


def test_a_start_that_has_not_come_to_its_end_tells_nothing():
    lines = log("wide4")
    end = next(number for number, line in enumerate(lines) if "initializing, n_slots" in line)
    assert told_by_log(lines[:end]) is None


@pytest.mark.parametrize("tear", [slice(30, None), slice(44, None)])
def test_a_log_of_which_the_beginning_is_gone_is_told_as_a_whole_or_not_at_all(tear):
    told = told_by_log(log("wide4")[tear])
    assert told is None or mib(told) == mib(told_by_log(log("wide4")))


ECHO = [
    "0.00.500.000 I load_tensors:   CPU_Mapped model buffer size = 99999.00 MiB",
    "0.00.500.001 I sched_reserve:        CPU compute buffer size = 99999.00 MiB",
    CARD,
]


def test_words_of_a_client_are_never_believed():
    """A client can have anything echoed, but only from a server that has loaded."""
    assert told_by_log([*log("wide4"), *ECHO, LOADED]) == told_by_log(log("wide4"))
    assert (
        told_by_log(["0.00.030.735 I srv    load_model: loading model 'demo.gguf'", LOADED, *ECHO, LOADED])
        is None
    )


def test_lines_that_do_not_say_what_they_are_count_for_nothing():
    bare = [
        "load_tensors:   CPU_Mapped model buffer size = 9.00 MiB",
        "sched_reserve: CPU compute buffer size = 9.00 MiB",
    ]
    assert told_by_log([*bare, LOADED]) is None


def test_llama_fit_params_prints_a_line_for_each_device():
    """As llama.cpp#22171 shows it."""
    printed = (
        "0.00.196.882 I main: printing estimated memory in MiB to stdout (device, model, context, compute) ...\n"
        "MTL0 7401 814 517 \nhost 1280 0 154 \n"
    )
    assert mib(told_by_fit_params(printed)) == {"MTL0": 8732, HOST: 1434}


@pytest.mark.parametrize("printed", ["", "-c 4096 -ngl 99\n", "error: invalid argument: --fit-print\n"])
def test_a_tool_that_prints_something_else_tells_nothing(printed):
    assert told_by_fit_params(printed) is None
