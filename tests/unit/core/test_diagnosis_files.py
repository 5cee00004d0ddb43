"""Which file, or which flag, a server could not start with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.diagnosis.named_files import BadFile, NamedFile
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import FailureKind
from supervisor_app.core.testing import make_spec
from tests.unit.core.diagnosing import BEFORE, FAILED, spec_of, told

JSON_ERROR = "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error"
CLIP = (
    "0.00.026.999 E clip_init: failed to load model '/m/p.gguf': clip_model_loader: failed to load CLIP model"
)
OTHER_MISSING = "A file that it needs is missing"

FILES = {
    "model": (
        [],
        ["E gguf_init_from_file: failed to open GGUF file 'm.gguf' (No such file or directory)"],
        (FailureKind.MODEL_MISSING, "Model file missing", "/srv/m.gguf"),
    ),
    "part": (
        ["m-00001-of-00002.gguf"],
        [
            "E gguf_init_from_file: failed to open GGUF file 'm-00002-of-00002.gguf' (No such file or directory)"
        ],
        (FailureKind.MODEL_MISSING, "A part of the model is missing", "/srv/m-00002-of-00002.gguf"),
    ),
    "mmproj": (
        ["--mmproj", "/m/p.gguf"],
        ["E gguf_init_from_file: failed to open GGUF file '/m/p.gguf' (No such file or directory)", CLIP],
        (FailureKind.MODEL_MISSING, OTHER_MISSING, "/m/p.gguf"),
    ),
    "broken mmproj": (
        ["--mmproj", "/m/p.gguf"],
        ["E gguf_init_from_reader: invalid magic characters: '?8?^', expected 'GGUF'", CLIP],
        (FailureKind.MODEL_CORRUPT, "A file that it needs is broken or incomplete", "/m/p.gguf"),
    ),
    "lora": (
        ["--lora", "a.gguf,l.gguf"],
        ["E llama_adapter_lora_init: failed to open 'l.gguf': No such file or directory"],
        (FailureKind.MODEL_MISSING, OTHER_MISSING, "/srv/l.gguf"),
    ),
    "unreadable lora": (
        ["--lora", "l.gguf"],
        ["E llama_adapter_lora_init: failed to open 'l.gguf': Permission denied"],
        (FailureKind.MODEL_UNREADABLE, "A file that it needs is not readable", "/srv/l.gguf"),
    ),
    "no lora": (
        ["--lora", "l.gguf"],
        [
            "E llama_adapter_lora_init_from_file_ptr: failed to apply lora adapter: expect general.type",
            "E cmn  common_init_: failed to load lora adapter 'l.gguf'",
        ],
        (
            FailureKind.MODEL_UNSUPPORTED,
            "A file that it needs is not supported by this llama-server",
            "/srv/l.gguf",
        ),
    ),
    "template": (
        ["--chat-template-file", "t.jinja"],
        ["error while handling argument \"--chat-template-file\": error: failed to open file 't.jinja'"],
        (FailureKind.BAD_ARGUMENT, "llama-server refused a flag", "/srv/t.jinja"),
    ),
    "schema": (
        ["-jf", "s.json"],
        [f'error while handling argument "-jf": {JSON_ERROR}'],
        (FailureKind.BAD_ARGUMENT, "llama-server refused a flag", "/srv/s.json"),
    ),
    "servers": (
        ["--mcp-servers-config", "mcp.json"],
        ["E srv  llama_server: MCP starting failed: failed to open MCP config file: mcp.json"],
        (FailureKind.BAD_ARGUMENT, "llama-server refused a flag", "/srv/mcp.json"),
    ),
    "broken servers": (
        ["--mcp-servers-config", "mcp.json"],
        [f"E srv  llama_server: MCP starting failed: failed to parse MCP config JSON: {JSON_ERROR}"],
        (FailureKind.BAD_ARGUMENT, "llama-server refused a flag", "/srv/mcp.json"),
    ),
    "servers, with underscores": (
        ["--mcp_servers_config", "mcp.json"],
        [f"E srv  llama_server: MCP starting failed: failed to parse MCP config JSON: {JSON_ERROR}"],
        (FailureKind.BAD_ARGUMENT, "llama-server refused a flag", "/srv/mcp.json"),
    ),
    "ui": (
        ["--ui-config", "{bad"],
        [f"E srv          init: init: failed to parse UI config: {JSON_ERROR}"],
        (FailureKind.BAD_ARGUMENT, "llama-server refused a flag", ""),
    ),
    "kwargs": (
        ["--chat-template-kwargs", "{bad"],
        [f'error while handling argument "--chat-template-kwargs": {JSON_ERROR}'],
        (FailureKind.BAD_ARGUMENT, "llama-server refused a flag", ""),
    ),
    "preset": (
        ["--models-preset", "p.ini"],
        ["E srv  llama_server: failed to initialize router models: preset file does not exist: p.ini"],
        (FailureKind.BAD_ARGUMENT, "llama-server refused a flag", "/srv/p.ini"),
    ),
}


@pytest.mark.parametrize("how", FILES)
def test_the_file_or_the_flag_is_named(how):
    args, lines, (kind, title, file) = FILES[how]
    model = args.pop(0) if args and args[0].startswith("m-") else "m.gguf"
    failure = told(FAILED, [*BEFORE[:1], *lines], was_ready=False, spec=spec_of(model, *args))
    assert (failure.kind, failure.title, failure.file) == (kind, title, file)
    assert failure.permanent
    if args:
        assert args[0].replace("_", "-") in failure.detail + failure.hint


def test_a_router_goes_on_without_a_model_that_is_broken():
    lines = [
        "0.00.030.427 E gguf_init_from_reader: invalid magic characters: '?8?^', expected 'GGUF'",
        "0.00.040.000 E srv         start: couldn't bind HTTP server socket, hostname: ::, port: 1",
    ]
    router = replace(make_spec(args=("--models-dir", "models")), model_path=None)
    assert told(FAILED, lines, was_ready=False, spec=router).kind is FailureKind.PORT_TAKEN


def bad(flag, kind=FailureKind.BAD_ARGUMENT, path="/nope"):
    return BadFile(file=NamedFile(flag=flag, path=Path(path)), kind=kind, detail=f"{path} does not exist")


def test_a_server_that_says_nothing_is_explained_by_its_files():
    failure = told(FAILED, [], was_ready=False, files=[bad("-m", FailureKind.MODEL_MISSING), bad("--x")])
    assert failure == failure_of(FailureKind.MODEL_MISSING, "/nope does not exist")
    assert failure.file == "/nope"


def test_a_failure_about_another_file_names_its_flag():
    failure = told(FAILED, [], was_ready=False, files=[bad("--mmproj", FailureKind.MODEL_MISSING)])
    assert (failure.title, failure.detail) == (OTHER_MISSING, "--mmproj: /nope does not exist")


def test_without_errno_the_files_are_looked_at():
    old = ["llama_model_load: error loading model: llama_model_loader: failed to load model from m.gguf"]
    assert told(FAILED, old, was_ready=False).kind is FailureKind.UNKNOWN
    files = [bad("-m", FailureKind.MODEL_MISSING)]
    assert told(FAILED, old, was_ready=False, files=files).kind is FailureKind.MODEL_MISSING


@pytest.mark.parametrize(("ended", "was_ready"), [(FAILED, True), (Exit(signal=11), False), (Exit(), False)])
def test_a_failure_after_ready_is_not_explained_by_files(ended, was_ready):
    assert told(ended, [], was_ready=was_ready, files=[bad("-m")]).file == ""


def test_a_key_for_tls_that_is_not_there_is_no_address_that_is_taken():
    line = "0.00.015.092 E srv         start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 1"
    failure = told(FAILED, [line], was_ready=False, files=[bad("--lora"), bad("--ssl-key-file")])
    assert (failure.kind, failure.permanent) == (FailureKind.BAD_ARGUMENT, True)
    assert "--ssl-key-file: /nope does not exist" in failure.detail
