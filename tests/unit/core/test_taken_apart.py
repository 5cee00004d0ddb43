"""A command line that people paste, taken apart into settings."""

from __future__ import annotations

import pytest

from supervisor_app.core.command_line.shell import CommandLineError
from supervisor_app.core.command_line.taken_apart import take_apart


def test_settings_are_found_under_either_name_and_the_rest_is_kept_in_order():
    parts = take_apart(
        "llama-server -m 'my model.gguf' --host 0.0.0.0 --port=9001 -c 8192 --api_key k -fa on"
    )
    assert parts.values == {"model_path": "my model.gguf", "host": "0.0.0.0", "port": 9001, "api_key": "k"}
    assert parts.args == ["-c", "8192", "-fa", "on"]
    assert parts.binary == ""


def test_lines_of_a_shell_variables_and_the_path_of_the_program_are_understood():
    parts = take_apart("CUDA_VISIBLE_DEVICES=0,1 /opt/llama/bin/llama-server \\\n  --models-dir /models\n")
    assert parts.environment == {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert parts.binary == "/opt/llama/bin/llama-server"
    assert parts.values == {"models_dir": "/models"}
    assert parts.args == []


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("llama-server -c 1 # hi", ["-c", "1"]),
        ("# don't\nllama-server \\ \r\n  -c 1", ["-c", "1"]),
        ("llama-server -a '#1' -a x#1", ["-a", "#1", "-a", "x#1"]),
        (
            "llama-server --chat-template 'a; b & c\n# d' -c 1",
            ["--chat-template", "a; b & c\n# d", "-c", "1"],
        ),
        ('llama-server -ot "a=CPU;b" --x y\\;z', ["-ot", "a=CPU;b", "--x", "y;z"]),
    ],
)
def test_comments_are_left_out_and_what_is_quoted_is_kept(command, args):
    assert take_apart(command).args == args


def test_flags_alone_are_a_command_line():
    assert take_apart("-hf ggml-org/gemma:Q8_0").args == ["-hf", "ggml-org/gemma:Q8_0"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("llama-server -m 'x", "Close every quote"),
        ("llama-server -m x.gguf > log", "'>' is for a shell"),
        ("llama-server -m x.gguf 2>&1", "'2>&1' is for a shell"),
        ("llama-server -m x; echo y", "';' is for a shell, and none runs this. Leave it out"),
        ("llama-server -m x&&echo y", "'&&' is for a shell"),
        ("llama-server -m x|tee log", "'|' is for a shell"),
        ("docker run llama", "begins with 'docker'"),
        ("llama-server -m", "-m has no value"),
        ("llama-server -m a.gguf --model b.gguf", "--model twice"),
        ("llama-server --port eight", "--port is 'eight'"),
    ],
)
def test_a_mistake_says_what_would_do(command, message):
    with pytest.raises(CommandLineError, match=message):
        take_apart(command)
