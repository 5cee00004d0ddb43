"""Command lines as shells, containers and units write them."""

from __future__ import annotations

import tomllib

import pytest

from supervisor_app.importing.found import ImportMistakeError
from supervisor_app.importing.kinds import import_text
from supervisor_app.importing.written import write_toml


def made_of(text):
    return write_toml(import_text(text))


def server_of(text):
    (server,) = tomllib.loads(made_of(text))["servers"].values()
    return server


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("llama-server -m a.gguf -c 1 # twice as much", ["-c", "1"]),
        ("llama-server -m a.gguf -a '#1' -c 1", ["-a", "#1", "-c", "1"]),
        ("llama-server -m a.gguf -a x#1", ["-a", "x#1"]),
        ("llama-server -m a.gguf \\ \n  -c 1", ["-c", "1"]),
        ("llama-server -m a.gguf \\\r\n  -c 1", ["-c", "1"]),
        ("llama-server -m a.gguf --chat-template 'a; b & c'", ["--chat-template", "a; b & c"]),
    ],
)
def test_a_line_is_split_as_a_shell_does(text, args):
    assert server_of(text) == {"model_path": "a.gguf", "args": args}


@pytest.mark.parametrize("sign", [";", "&", "|", ">"])
def test_a_sign_of_a_shell_is_found_without_spaces_around_it(sign):
    with pytest.raises(ImportMistakeError, match=f"'[{sign}]' is for a shell"):
        import_text(f"llama-server -m a.gguf{sign}tee log")


@pytest.mark.parametrize("value", ["$HOME/a.gguf", "${MODELS}/a.gguf", "$(pwd)/a.gguf"])
def test_a_variable_of_a_shell_is_remarked_on(value):
    made = made_of(f'llama-server -m "{value}"')
    assert f"# {value.removesuffix('/a.gguf')} is for a shell, and none runs this." in made


def test_a_program_before_it_may_have_a_path():
    assert server_of("/usr/bin/env CUDA_VISIBLE_DEVICES=1 llama-server -m a")["environment"] == {
        "CUDA_VISIBLE_DEVICES": "1"
    }


IMAGE = "ghcr.io/ggml-org/llama.cpp:server"


@pytest.mark.parametrize("here", ["$(pwd)", "$PWD", "${PWD}"])
def test_a_volume_of_this_directory_is_this_directory(here):
    server = server_of(f'docker run -v "{here}/models:/models" {IMAGE} -m /models/a.gguf')
    assert server["model_path"] == "./models/a.gguf"


def test_a_mount_and_the_gpus_of_a_container_are_taken():
    mount = "type=bind,source=/srv/models,target=/models,readonly"
    made = made_of(
        f"docker run --mount {mount} --gpus '\"device=0,2\"' --env-file llama.env {IMAGE} -m /models/a"
    )
    (server,) = tomllib.loads(made)["servers"].values()
    assert server["model_path"] == "/srv/models/a"
    assert server["environment"] == {"CUDA_VISIBLE_DEVICES": "0,2"}
    assert "# --env-file llama.env: write its variables into environment." in made


def test_a_shell_in_a_unit_that_only_runs_the_server_is_left_out():
    unit = "[Service]\nExecStart=/bin/sh -c 'exec /opt/llama-server -m /m/a.gguf'"
    assert server_of(unit) == {"engine": "imported", "model_path": "/m/a.gguf"}


def test_a_name_of_the_process_in_a_unit_is_no_flag():
    assert server_of("[Service]\nExecStart=@/opt/llama-server llama -m a") == {
        "engine": "imported",
        "model_path": "a",
    }


def test_a_program_without_a_path_in_a_unit_keeps_its_name():
    assert server_of("[Service]\nExecStart=llama-server -m a") == {"model_path": "a"}


def test_the_last_line_of_a_unit_may_promise_another():
    assert server_of("[Service]\nExecStart=/bin/llama-server -m a \\")["model_path"] == "a"


@pytest.mark.parametrize(
    ("said", "key", "value"),
    [
        ("RestartSec=0", "retry_backoff_ms", 1),
        ("RestartSec=1.5", "retry_backoff_ms", 1500),
        ("TimeoutStopSec=1min 30s", "stop_grace_ms", 90_000),
        ("TimeoutStopSec=infinity", "stop_grace_ms", None),
    ],
)
def test_times_of_a_unit_become_settings(said, key, value):
    assert server_of(f"[Service]\nExecStart=/bin/llama-server -m a\n{said}").get(key) == value


def test_an_empty_environment_of_a_unit_forgets_what_was_said():
    unit = "[Service]\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2\nExecStart=/bin/llama-server -m a"
    assert server_of(unit)["environment"] == {"B": "2"}


COMPOSE = "services:\n  a:\n    image: llama.cpp\n    command: -m a\n    "


@pytest.mark.parametrize(
    ("period", "milliseconds"), [("1h", 3_600_000), ("1m30s", 90_000), ("500ms", 500), ("1h5ms", 3_600_005)]
)
def test_a_grace_period_of_compose_has_all_its_units(period, milliseconds):
    assert server_of(f"{COMPOSE}stop_grace_period: {period}")["stop_grace_ms"] == milliseconds


def test_a_variable_that_compose_takes_from_its_shell_is_remarked_on():
    assert "# environment.FOO comes from the shell of Compose" in made_of(
        f"{COMPOSE}environment:\n      FOO:"
    )


def test_parameters_that_are_stripped_may_be_a_list():
    text = "models:\n  a:\n    cmd: llama-server -m a\n    filters: {stripParams: [top_p, top_k]}"
    assert server_of(text)["presets"]["a"] == {"remove": ["top_p", "top_k"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[Service]\nEnvironment=MODEL=/m/a b.gguf\nExecStart=/bin/llama-server -m $MODEL",
            "line 2: Environment: 'b.gguf' is no NAME=value. Quote values with spaces.",
        ),
        (
            "models:\n  a:\n    cmd: llama-server -c ${CTX}\n    macros: {CTX: }",
            "line 3: models.a.cmd: the macro ${CTX} has no value. Write one.",
        ),
        (
            "models:\n  a:\n    cmd: llama-server -m a\n    filters: {setParams: {since: 2020-01-01}}",
            "line 4: models.a.filters.setParams.since: 2020-01-01 is no JSON. Write it in quotes",
        ),
    ],
)
def test_a_mistake_says_what_would_do(text, said):
    with pytest.raises(ImportMistakeError) as raised:
        import_text(text)
    assert said in str(raised.value)
