"""The flags of the launcher, read without a process."""

from __future__ import annotations

import os

import pytest

from supervisor_app.engine import launcher
from tests.integration.engine.running import BAD_FLAGS

pytestmark = pytest.mark.engine


@pytest.mark.parametrize(("flags", "line"), BAD_FLAGS)
def test_a_bad_flag_is_refused_before_anything_is_loaded(flags, line):
    with pytest.raises(SystemExit) as ended:
        list(launcher.from_arguments(flags))
    assert str(ended.value.code).splitlines()[0] == line


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, []),
        ({"LLAMA_ARG_PORT": "8134"}, [("port", 8134)]),
        ({"LLAMA_ARG_PORT": "+12x"}, [("port", 12)]),
        ({"LLAMA_API_KEY": "a,,b"}, [("api_keys", ["a", "b"])]),
        ({"LLAMA_ARG_N_GPU_LAYERS": "all"}, [("n_gpu_layers", -2)]),
        ({"LLAMA_ARG_THREADS": "0"}, [("cpuparams.n_threads", os.cpu_count())]),
        ({"LLAMA_ARG_ENDPOINT_METRICS": "on"}, [("endpoint_metrics", True)]),
        # A switch without an opposite cannot be turned off, and nonsense does not turn it on.
        ({"LLAMA_ARG_ENDPOINT_METRICS": "maybe"}, []),
        ({"LLAMA_ARG_ENDPOINT_SLOTS": "off"}, [("endpoint_slots", False)]),
        ({"LLAMA_ARG_NO_JINJA": ""}, [("use_jinja", False)]),
        ({"LLAMA_ARG_UNKNOWN": "1"}, []),
    ],
)
def test_the_environment_sets_what_flags_set(environ, expected):
    assert list(launcher.from_environment(environ)) == expected


@pytest.mark.parametrize("environ", [{"LLAMA_ARG_JINJA": "maybe"}, {"LLAMA_ARG_PORT": "70000"}])
def test_a_bad_environment_variable_is_refused_by_name(environ):
    (name,) = environ
    with pytest.raises(SystemExit, match=f'error while handling environment variable "{name}"'):
        list(launcher.from_environment(environ))


def test_the_last_flag_wins_and_keys_add_up(tmp_path):
    xllamacpp = pytest.importorskip("xllamacpp", reason="pip install '.[engine]'")
    keys = tmp_path / "keys"
    keys.write_text("# a comment\n\n three \nfour\n")
    arguments = ["-c", "1", "-c", "2", "--api_key", "one,two", "--api-key-file", str(keys), "-t", "3"]
    params = launcher.apply(list(launcher.from_arguments(arguments)), xllamacpp)
    assert params.n_ctx == 2
    assert params.api_keys == ["one", "two", "three", "four"]
    assert (params.cpuparams.n_threads, params.cpuparams_batch.n_threads) == (3, 3)
    assert (params.port, params.n_parallel) == (8080, -1)


def test_every_flag_and_switch_reaches_an_attribute(tmp_path):
    xllamacpp = pytest.importorskip("xllamacpp", reason="pip install '.[engine]'")
    samples = {"-fa": "on", "-ctk": "q8_0", "-ctv": "f16", "-lm": "mmap+mlock", "--pooling": "mean"}
    samples |= {
        "--chat-template-file": __file__,
        "--api-key-file": __file__,
        "--slot-save-path": str(tmp_path),
    }
    for flag in launcher.FLAGS:
        given = [flag.names[0], samples.get(flag.names[0], "1")]
        launcher.apply(list(launcher.from_arguments(given)), xllamacpp)
    for switch in launcher.SWITCHES:
        for name in (*switch.on, *switch.off):
            params = launcher.apply(list(launcher.from_arguments([name])), xllamacpp)
            assert getattr(params, switch.attribute) is ((name in switch.on) is not switch.inverted)
