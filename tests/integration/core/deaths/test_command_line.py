"""Deaths of a real llama-server for its flags and the files that they name."""

from __future__ import annotations

import sys

import pytest

from supervisor_app.core.status import FailureKind
from supervisor_app.fleet.models import ServerState
from tests.integration.building import db
from tests.integration.core.deaths.ward import assert_died

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals and limits as Linux has them"),
]


# --- The command line ----------------------------------------------------------------------------------

REFUSED = {
    "unknown flag": (["--frobnicate"], "error: invalid argument: --frobnicate"),
    "bad value": (["-c", "many"], 'error while handling argument "-c": stoi'),
    "missing value": (["-c"], 'error while handling argument "-c": expected value'),
    "missing key file": (["--api-key-file", "/no/such/keys"], "failed to open file '/no/such/keys'"),
}


@pytest.mark.parametrize("how", REFUSED)
async def test_a_flag_that_the_engine_refuses_is_named(ward, demo, how):
    args, decisive = REFUSED[how]
    run = await ward.dies(demo, *args)
    assert_died(run, FailureKind.BAD_ARGUMENT, "llama-server refused a flag", decisive)
    assert run.argv[-len(args) :] == args


# --- The files that flags name -------------------------------------------------------------------------

NOWHERE = "/no/such/file"


def kept_failure():
    """Return the failure as the next supervisor reads it."""
    return ServerState.objects.get().failure or {}


OTHER_FILES = {
    "a projector": (["--mmproj", NOWHERE], FailureKind.MODEL_MISSING, "No such file or directory"),
    "a draft model": (["-md", NOWHERE], FailureKind.MODEL_MISSING, "No such file or directory"),
    "an adapter": (["--lora", NOWHERE], FailureKind.MODEL_MISSING, "No such file or directory"),
    "a template": (["--chat-template-file", NOWHERE], FailureKind.BAD_ARGUMENT, "failed to open file"),
    "tool servers": (["--mcp-servers-config", NOWHERE], FailureKind.BAD_ARGUMENT, "failed to open MCP"),
    "a page": (["--path", NOWHERE], FailureKind.BAD_ARGUMENT, "static assets path not found"),
    "a grammar": (["--grammar-file", NOWHERE], FailureKind.BAD_ARGUMENT, "failed to open file"),
    "in silence": (["--lora", NOWHERE, "--log-disable"], FailureKind.MODEL_MISSING, ""),
    "in silence, too": (["--mmproj", NOWHERE, "-lv", "0"], FailureKind.MODEL_MISSING, ""),
    "in JSON": (["--lora", NOWHERE, "--log-jsonl"], FailureKind.MODEL_MISSING, "No such file or directory"),
}


@pytest.mark.parametrize("what", OTHER_FILES)
async def test_a_file_that_a_flag_names_is_missing(ward, demo, what):
    args, kind, decisive = OTHER_FILES[what]
    run = await ward.dies(demo, *args)
    assert run.failure_kind == kind
    assert NOWHERE in run.failure_detail
    assert args[0] in run.failure_detail + run.failure_hint
    assert decisive in run.evidence["decisive"]
    kept = await db(kept_failure)
    assert (kept["permanent"], kept["file"]) == (True, NOWHERE)


BROKEN_JSON = {
    "in a flag": ["--chat-template-kwargs", "{bad"],
    "for tools": ["--mcp-servers-json", "{bad"],
    "for the page": ["--ui-config", "{bad"],
    "in a file": ["--mcp-servers-config", "bad.json"],
    "in a schema": ["-jf", "bad.json"],
}


@pytest.mark.parametrize("where", BROKEN_JSON)
async def test_json_that_is_broken(ward, copy, tmp_path, where):
    (tmp_path / "bad.json").write_text("{bad")
    flag, value = BROKEN_JSON[where]
    file = str(tmp_path / value) if value == "bad.json" else ""
    run = await ward.dies(copy(), flag, file or value)
    assert_died(run, FailureKind.BAD_ARGUMENT, "llama-server refused a flag", "json.exception.parse_error")
    assert flag in run.failure_detail
    assert (await db(kept_failure))["file"] == file


@pytest.mark.parametrize("how", ["--log-disable", "--log-jsonl", "--no-log-prefix", "--no-log-timestamps"])
async def test_a_missing_model_is_named_however_the_engine_logs(ward, tmp_path, how):
    run = await ward.dies(tmp_path / "none.gguf", how)
    assert (run.failure_kind, run.failure_title) == (FailureKind.MODEL_MISSING, "Model file missing")
    assert str(tmp_path / "none.gguf") in run.failure_detail


def in_parts(demo, folder):
    """The demo model in three parts."""
    gguf = pytest.importorskip("gguf", reason="pip install '.[engine]'")
    reader = gguf.GGUFReader(demo)
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama", split_max_tensors=8)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            of_items = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], of_items)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("model-*.gguf"))


async def test_a_model_without_its_second_part(ward, demo, tmp_path):
    first, second, _ = in_parts(demo, tmp_path)
    second.unlink()
    run = await ward.dies(first)
    assert_died(run, FailureKind.MODEL_MISSING, "A part of the model is missing", second.name)
    assert (await db(kept_failure))["file"] == str(second)
