"""Deaths of a real llama-server for its model."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from supervisor_app.core.status import FailureKind
from tests.integration.core.deaths.ward import ENGINE, assert_died

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals and limits as Linux has them"),
]


# --- The model -----------------------------------------------------------------------------------------


def replaced(old, new):
    def edit(data):
        assert old in data
        return data.replace(old, new, 1)

    return edit


BROKEN = {
    "zero length": (lambda data: b"", "failed to read magic"),
    "garbage": (lambda data: b"){?!" * 5000, "invalid magic characters"),
    "a web page": (lambda data: b"<!DOCTYPE html>" + b" " * 5000, "invalid magic characters"),
    "truncated in its header": (lambda data: data[:20], "failed to read"),
    "truncated in its keys": (lambda data: data[:2000], "failed to read key-value pairs"),
    "truncated in its data": (lambda data: data[:-1000], "model is corrupted or incomplete"),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_model(ward, copy, how):
    edit, decisive = BROKEN[how]
    run = await ward.dies(copy(edit))
    assert_died(run, FailureKind.MODEL_CORRUPT, "Model file broken or incomplete", decisive)
    assert "model.gguf" in run.failure_detail


async def test_a_model_that_is_a_directory(ward, tmp_path):
    run = await ward.dies(tmp_path)
    assert_died(run, FailureKind.MODEL_CORRUPT, "Model file broken or incomplete", "failed to read magic")


async def test_a_missing_model(ward, tmp_path):
    run = await ward.dies(tmp_path / "none.gguf")
    assert_died(run, FailureKind.MODEL_MISSING, "Model file missing", "No such file or directory")
    assert str(tmp_path / "none.gguf") in run.failure_detail


async def test_a_model_that_may_not_be_read(ward, copy):
    model = copy()
    model.chmod(0)
    if os.geteuid() == 0:  # root may read everything
        if not (setpriv := shutil.which("setpriv")):
            pytest.skip("runs as root, and setpriv is not there to run the engine as somebody else")
        ward.command = (setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", ENGINE)
    run = await ward.dies(model)
    assert_died(run, FailureKind.MODEL_UNREADABLE, "Model file not readable", "Permission denied")


UNSUPPORTED = {
    "unknown architecture": (
        replaced(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0llamq"),
        "unknown model architecture: 'llamq'",
    ),
    "missing tensor": (replaced(b"blk.1.ffn_up.weight", b"blk.1.ffn_uq.weight"), "tensor"),
    "missing key": (replaced(b"llama.block_count", b"llama.block_cound"), "key not found in model"),
    "a version from the future": (replaced(b"GGUF\x03", b"GGUF\x09"), "this GGUF file is version"),
}


@pytest.mark.parametrize("how", UNSUPPORTED)
async def test_a_model_that_the_engine_does_not_support_is_named(ward, copy, how):
    edit, decisive = UNSUPPORTED[how]
    run = await ward.dies(copy(edit))
    assert_died(run, FailureKind.MODEL_UNSUPPORTED, "Model not supported by this llama-server", decisive)
