"""Secrets do not reach the eyes of people, and ordinary lines stay readable."""

from __future__ import annotations

import pytest

from supervisor_app.common.redact import (
    HIDDEN,
    harmless,
    redact,
    redact_argv,
    redact_environment,
    secrets_of,
    without_folders,
    word_without_folders,
)


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        ("Authorization: Bearer abcdef123", f"Authorization: Bearer {HIDDEN}"),
        ("got bearer abc", f"got bearer {HIDDEN}"),
        ('{"api_key": "abc", "n": 1}', f'{{"api_key": "{HIDDEN}", "n": 1}}'),
        ("API-KEY=abc&x=1", f"API-KEY={HIDDEN}&x=1"),
        ("password: hunter2", f"password: {HIDDEN}"),
        ("using sk-abcdefghijkl for it", f"using {HIDDEN} for it"),
        ("hf_abcdefghijklmn", HIDDEN),
        ("key lp-AbCdEfGh01234567 made", f"key {HIDDEN} made"),
        ("github_pat_11ABCDEFG0abcdef", HIDDEN),
        ("AKIAIOSFODNN7EXAMPLE", HIDDEN),
        ("cookie eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", f"cookie {HIDDEN}"),
        ("from https://bob:s3cret@example.org/x", f"from https://{HIDDEN}@example.org/x"),
        ("postgres://u:p%40ss@db:5432/n", f"postgres://{HIDDEN}@db:5432/n"),
        ("GET /x?token=abc&sig=def&a=1", f"GET /x?token={HIDDEN}&sig={HIDDEN}&a=1"),
        ("llama-server --api-key swordfish -c 5", f"llama-server --api-key {HIDDEN} -c 5"),
        ("llama-server --hf-token='two words' -c 5", f"llama-server --hf-token={HIDDEN} -c 5"),
        ("llama-server -hft abc", f"llama-server -hft {HIDDEN}"),
        ("prog --db-password hunter2", f"prog --db-password {HIDDEN}"),
        # Not secrets: what llama-server says all the time.
        ("srv operator(): unauthorized: Invalid API Key", "srv operator(): unauthorized: Invalid API Key"),
        ("n_tokens = 512, eos token = 2, token: 13.5%", "n_tokens = 512, eos token = 2, token: 13.5%"),
        ("error: invalid argument: --api-key", "error: invalid argument: --api-key"),
        ("llama-server --api-key --port 1", "llama-server --api-key --port 1"),
        ("see https://example.org/a@b", "see https://example.org/a@b"),
        ("listening on http://127.0.0.1:8134", "listening on http://127.0.0.1:8134"),
        ("slot 0 | task 5 | prompt eval time = 3 ms", "slot 0 | task 5 | prompt eval time = 3 ms"),
    ],
)
def test_secrets_are_hidden_by_their_shape(line, clean):
    assert redact(line) == clean


def test_secrets_are_hidden_by_their_value():
    assert redact("key is swordfish.", ["swordfish", "", "is"]) == f"key is {HIDDEN}."


@pytest.mark.parametrize(
    ("argv", "clean"),
    [
        (("llama-server", "-c", "5"), ("llama-server", "-c", "5")),
        (("x", "--api-key", "--odd value"), ("x", "--api-key", HIDDEN)),
        (("x", "--api_key", "a"), ("x", "--api_key", HIDDEN)),
        (("x", "--api-key=a=b", "-v"), ("x", f"--api-key={HIDDEN}", "-v")),
        (("x", "-hft", "abc", "-hf", "a/b"), ("x", "-hft", HIDDEN, "-hf", "a/b")),
        (("x", "--mcp-servers-json", '{"env": {"T": "abc"}}'), ("x", "--mcp-servers-json", HIDDEN)),
        (("x", "--model-url", "https://u:p@h/m.gguf"), ("x", "--model-url", f"https://{HIDDEN}@h/m.gguf")),
        (("x", "--api-key-file", "keys.txt"), ("x", "--api-key-file", "keys.txt")),
        (("x", "--ssl-key-file", "tls.pem"), ("x", "--ssl-key-file", "tls.pem")),
        (("x", "--image-min-tokens", "5", "--special"), ("x", "--image-min-tokens", "5", "--special")),
        (("x", "--password"), ("x", "--password")),
    ],
)
def test_secrets_of_a_command_line_are_hidden_by_the_name_of_their_flag(argv, clean):
    assert redact_argv(argv) == clean


def test_secrets_in_flags_are_known_for_other_places():
    argv = ("x", "--api-key", "a-b_c", "--hf_token=d_e", "--api-key-file", "f")
    assert secrets_of(argv) == ("a-b_c", "d_e")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode, tab\tand\nnewline", "plain, ünïcode, tab\tand\nnewline"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x1b[2J\x9b31m\x7f", r"\x1b[2J\x9b31m\x7f"),
        ("over\rwritten", r"over\rwritten"),
        ("abc\u202edef", r"abc\u202edef"),
    ],
)
def test_a_terminal_obeys_nothing(text, shown):
    assert harmless(text) == shown


# --- What leaves the house -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/jo/models/x.gguf", "…/x.gguf"),
        ("~/models/x.gguf", "…/x.gguf"),
        ("C:\\Users\\jo\\x.gguf", "…/x.gguf"),
        (
            "failed to open '/home/jo doe/x y.gguf' (No such file)",
            "failed to open '…/x y.gguf' (No such file)",
        ),
        ("/opt/llama.cpp/src/ggml-cuda.cu:110: CUDA error", "…/ggml-cuda.cu:110: CUDA error"),
        ("--model=/srv/acme/x.gguf", "--model=…/x.gguf"),
        ("POST /v1/chat/completions 200", "POST /v1/chat/completions 200"),
        ("http://example.org/a/b", "http://example.org/a/b"),
        ("./models/m.gguf and /props", "./models/m.gguf and /props"),
    ],
)
def test_of_a_path_its_file_is_left(text, left):
    assert without_folders(text) == left


@pytest.mark.parametrize(
    ("word", "left"),
    [("/home/jo doe/x y.gguf", "…/x y.gguf"), ("--x=/home/jo/y", "--x=…/y"), ("8192", "8192"), ("/x", "/x")],
)
def test_a_word_of_a_command_line_may_be_a_path_with_spaces(word, left):
    assert word_without_folders(word) == left


def test_variables_that_say_how_to_compute_are_shown_and_no_others():
    given = {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "GGML_TRACE": "sk-planted-12345678",
        "LLAMA_ARG_API_KEY": "planted with spaces",
        "HF_TOKEN": "planted",
        "DATABASE": "planted",
    }
    shown = redact_environment(given.items())
    assert shown == dict.fromkeys(given, HIDDEN) | {"CUDA_VISIBLE_DEVICES": "0,1"}
