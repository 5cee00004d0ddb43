"""Configurations of other programs, as people have them, and the servers that come of them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from supervisor_app.importing.kinds import import_text
from supervisor_app.importing.written import write_toml

SOURCES = {path.name: path.read_text() for path in sorted((Path(__file__).parent / "sources").iterdir())}
SECRETS = (
    "sk-swap-0123456789abcdef",
    "plain-words-are-keys-too",
    "hf_zzzzzzzzzzzzzzzzzzzz",
    "hf_yyyyyyyyyyyyyyyyyy",
    "also-not-for-comments",
    "very-private-value",
    "peer-key-nobody-may-see",
    "compose-secret-1",
    "unit-secret-key",
    "script-secret",
    "another-secret",
)


def made_of(name):
    return write_toml(import_text(SOURCES[name]))


def servers_of(name):
    return tomllib.loads(made_of(name))["servers"]


def remarks_of(name):
    return [line.removeprefix("# ") for line in made_of(name).splitlines() if line.startswith("#")]


def said(remarks, start):
    """Return the one remark that begins so."""
    (found,) = [remark for remark in remarks if remark.startswith(start)]
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_no_secret_is_in_a_comment(name):
    comments = "\n".join(remarks_of(name))
    assert [secret for secret in SECRETS if secret in comments] == []


def test_the_sources_have_the_secrets():
    assert [secret for secret in SECRETS if secret not in "".join(SOURCES.values())] == []


# --- llama-swap ----------------------------------------------------------------------------------------


def test_a_model_of_llama_swap_becomes_a_server_with_its_macros_replaced():
    filtered = {
        "remove": ["temperature", "top_p"],
        "set": {"chat_template_kwargs": {"enable_thinking": False}},
    }
    assert servers_of("llama-swap.yaml")["qwen3-30b-a3b-plain"] == {
        "engine": "imported",
        "model_path": "/srv/models/Qwen3-30B-A3B-Q4_K_M.gguf",
        "args": [
            *("--no-webui", "--metrics", "--ctx-size", "32768", "-ngl", "99", "--jinja"),
            *("--cache-type-k", "q8_0", "--cache-type-v", "q8_0"),
        ],
        "aliases": ["qwen3:30b-a3b-plain"],
        "presets": dict.fromkeys(("qwen3:30b-a3b", "gpt-4o", "chat"), filtered),
        "host": "127.0.0.1",
        "idle_stop_seconds": 1800,
        "max_concurrent": 4,
        "group": "big",
        "environment": {"CUDA_VISIBLE_DEVICES": "0", "HF_TOKEN": "hf_zzzzzzzzzzzzzzzzzzzz"},
    }


def test_macros_of_a_model_come_before_those_of_all():
    coder = servers_of("llama-swap.yaml")["coder"]
    assert "--model-draft /srv/models/Qwen2.5-Coder-0.5B-Q8_0.gguf" in " ".join(coder["args"])
    assert coder["args"][-2:] == ["-a", "coder"]
    assert coder["stop_grace_ms"] == 20000
    assert "idle_stop_seconds" not in coder  # -1: as all


def test_settings_of_llama_swap_for_all_models_become_defaults():
    made = tomllib.loads(made_of("llama-swap.yaml"))
    assert made["defaults"] == {
        "max_load_seconds": 300,
        "idle_stop_seconds": 600,
        "ports": "10001-11000",
    }
    assert made["engines"] == {"imported": {"binary": "/opt/llama.cpp/build/bin/llama-server"}}


def test_two_models_that_took_turns_on_a_port_get_two():
    servers = servers_of("llama-swap.yaml")
    assert (servers["embed"]["port"], servers["rerank"].get("port")) == (9503, None)
    assert said(remarks_of("llama-swap.yaml"), "port 9503 is that of embed, too")


def test_groups_of_llama_swap_share_the_memory():
    made = tomllib.loads(made_of("llama-swap.yaml"))
    assert made["memory"] == {"groups": {"big": 1}}
    servers = made["servers"].values()
    assert {server["model_path"] for server in servers if server.get("group") == "big"} == {
        made["servers"][name]["model_path"]
        for name in made["servers"]
        if name.startswith(("qwen3-30b", "coder"))
    }
    pinned = {name for name, server in made["servers"].items() if server.get("pinned")}
    assert pinned == {"embed", "rerank"}


def test_servers_of_a_program_that_swaps_nothing_share_no_memory():
    assert "memory" not in tomllib.loads(made_of("presets.ini"))


def test_an_entry_that_is_not_llama_server_is_left_out_with_its_command():
    assert "vllm-container" not in servers_of("llama-swap.yaml")
    remark = said(remarks_of("llama-swap.yaml"), "line 72: vllm-container: left out")
    assert remark.endswith(
        "docker run --rm --name vllm -p ${PORT}:8000 -e HUGGING_FACE_HUB_TOKEN=[redacted] "
        "-e PLAIN=[redacted] vllm/vllm-openai:latest --model Qwen/Qwen3-8B"
    )


def test_a_model_in_a_container_of_llama_cpp_is_run_on_this_host():
    assert servers_of("llama-swap.yaml")["in-docker"] == {
        "model_path": "/mnt/nvme/models/Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf",
        "aliases": ["small"],
        "environment": {"GGML_CUDA_NO_PINNED": "1"},
    }
    remarks = remarks_of("llama-swap.yaml")
    assert said(remarks, "It ran in a container of ghcr.io/ggml-org/llama.cpp:server, whose llama-server")
    assert said(remarks, 'line 88: cmdStop = "docker stop ${MODEL_ID}": a server is stopped with SIGTERM')


@pytest.mark.parametrize(
    "start",
    [
        'line 3: logLevel = "info": logs are files',
        "line 6: sendLoadingState = true: clients wait",
        'line 8: apiKeys = "[redacted]": the gateway\'s keys are made with llama key add NAME',
        'line 101: hooks = {"on_startup": {"preload": ["embed"]}}: servers start with llamaproxy',
        'line 105: peers = {"other-host": {"proxy": "https://llm.example.org", "apiKey": "[redacted]"',
        "qwen3:30b-a3b is a preset, as its filters change all requests; the server itself is qwen3:30b-a3b-p",
        'line 43: metadata = {"owner": "ops", "api_token": "[redacted]"}: there is no counterpart',
        "line 56: unlisted = true: all servers are listed",
        'line 67: checkEndpoint = "none": /health is asked',
        "line 70: models.fetched.cmd: ${env.HF_TOKEN} is not known here",
    ],
)
def test_a_setting_without_counterpart_is_a_remark_with_line_value_and_advice(start):
    assert said(remarks_of("llama-swap.yaml"), start)


# --- llama.cpp's presets -------------------------------------------------------------------------------


def test_a_section_of_the_presets_has_what_is_said_for_all_before_its_own():
    qwen = servers_of("presets.ini")["qwen"]
    assert qwen["model_path"] == "/srv/models/qwen3-8b-q4_k_m.gguf"
    assert qwen["args"] == [
        *("-c", "8192", "--n-gpu-layers", "99", "--jinja", "--no-mmproj-auto", "--cache-type-k", "q8_0"),
        *("--ctx-size", "16384", "--flash-attn", "on"),
        *("--chat-template-kwargs", '{"enable_thinking": false}'),
    ]
    assert qwen["stop_grace_ms"] == 20000
    assert said(remarks_of("presets.ini"), 'line 21: load-on-startup = "true": all servers start')


def test_a_section_with_the_name_of_a_repository_fetches_it():
    gemma = servers_of("presets.ini")["ggml-org-gemma-3-4b-it-GGUF-Q4_K_M"]
    assert gemma["args"][:4] == ["-hf", "ggml-org/gemma-3-4b-it-GGUF:Q4_K_M", "-c", "131072"]
    assert gemma["aliases"] == ["ggml-org/gemma-3-4b-it-GGUF:Q4_K_M"]


def test_a_switch_that_is_off_is_its_negation():
    assert servers_of("presets.ini")["embed"]["args"][-2:] == ["--embedding", "--no-jinja"]


# --- Docker Compose ------------------------------------------------------------------------------------


def test_a_service_listens_where_it_was_published_on_files_of_this_host():
    assert servers_of("compose.yaml")["chat"] == {
        "model_path": "/srv/models/qwen3-8b-q4_k_m.gguf",
        "args": [
            *("--ctx-size", "16384", "--parallel", "2", "--metrics", "--jinja"),
            *("--chat-template-file", "./templates/qwen.jinja", "-ngl", "99"),
        ],
        "host": "127.0.0.1",
        "port": 8081,
        "api_key": "compose-secret-1",
        "stop_grace_ms": 90000,
        "environment": {"GGML_CUDA_ENABLE_UNIFIED_MEMORY": "1", "CUDA_VISIBLE_DEVICES": "1"},
    }


def test_a_service_of_the_full_image_with_a_list_of_words():
    assert servers_of("compose.yaml")["embed"] == {
        "model_path": "/models/bge-m3.gguf",
        "args": ["--embedding"],
        "host": "0.0.0.0",
        "port": 8082,
        "max_retries": 3,
    }
    remarks = remarks_of("compose.yaml")
    assert said(remarks, "${EMBED_KEY} is not known here: a random key is made")
    assert said(remarks, "/models/bge-m3.gguf is in Docker's volume models: copy the file")
    assert said(remarks, 'line 56: env_file = ".env": write its variables')


def test_a_service_that_is_none_of_ours_is_named():
    assert "web" not in servers_of("compose.yaml")
    assert said(remarks_of("compose.yaml"), "line 58: web (ghcr.io/open-webui/open-webui:main) is left out")


# --- systemd -------------------------------------------------------------------------------------------


def test_a_unit_becomes_the_server_default():
    made = tomllib.loads(made_of("llama.service"))
    assert made["engines"]["imported"]["binary"] == "/usr/local/bin/llama-server"
    assert made["servers"]["default"] == {
        "engine": "imported",
        "model_path": "/srv/llama/models/qwen3-8b-q4_k_m.gguf",
        "args": [
            *("--ctx-size", "16384", "--n-gpu-layers", "99"),
            *("--alias", "Qwen3 100%", "--metrics"),
        ],
        "host": "0.0.0.0",
        "port": 8080,
        "api_key": "unit-secret-key",
        "retry_backoff_ms": 2500,
        "max_backoff_ms": 30000,
        "stop_grace_ms": 90000,
        "environment": {"CUDA_VISIBLE_DEVICES": "0", "CTX": "16384"},
    }


@pytest.mark.parametrize(
    "start",
    [
        'line 8: User = "llama": servers run as the user of the supervisor',
        'line 12: EnvironmentFile = "-/etc/default/llama": write its variables',
        'line 24: MemoryMax = "24G": max_memory_mb',
        "left out: --ssl-key-file /etc/llama/key.pem: ",
    ],
)
def test_other_settings_of_a_unit_are_remarks(start):
    assert said(remarks_of("llama.service"), start)


# --- Command lines -------------------------------------------------------------------------------------


def test_a_script_of_one_command():
    assert servers_of("run.sh")["default"] == {
        "engine": "imported",
        "model_path": "~/models/gpt-oss-20b-mxfp4.gguf",
        "args": ["--threads", "8", "-c", "0", "-fa", "on", "--jinja"],
        "port": 8080,
        "api_key": "script-secret",
        "environment": {"CUDA_VISIBLE_DEVICES": "1"},
    }


def test_a_pasted_command_with_a_prompt():
    made = write_toml(import_text('$ llama-server -m "/srv/my models/a.gguf" --port=9000'))
    assert tomllib.loads(made)["servers"]["default"] == {"model_path": "/srv/my models/a.gguf", "port": 9000}


def test_a_pasted_docker_run_of_llama_cpp():
    command = (
        "docker run --gpus all -v /srv/models:/models -p 127.0.0.1:9000:8000 "
        "ghcr.io/ggml-org/llama.cpp:full-cuda --server -m /models/a.gguf --port 8000 --host 0.0.0.0 -ngl 99"
    )
    assert tomllib.loads(write_toml(import_text(command)))["servers"]["default"] == {
        "model_path": "/srv/models/a.gguf",
        "args": ["-ngl", "99"],
        "host": "127.0.0.1",
        "port": 9000,
    }
