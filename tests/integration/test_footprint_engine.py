"""Estimates beside what a real llama-server reserves: models of several shapes, each loaded and asked."""

from __future__ import annotations

import re
import shutil
import subprocess
import time

import gguf
import numpy
import pytest

from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.library.flags import load_of
from supervisor_app.library.footprint import Files, What, estimate
from supervisor_app.library.model import read_model
from tests import shapes
from tests.ports import free_port

ENGINE = shutil.which("llama-server") or ""
MIB = 2**20
PATIENCE = 60.0
LOADED = "model loaded"
KINDS = {
    What.WEIGHTS: ("model",),
    What.CONTEXT: ("KV", "RS", "output"),
    What.COMPUTE: ("compute",),
    What.ADAPTERS: ("LoRA",),
}

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not ENGINE, reason="compares with llama-server's own words: install llama.cpp"),
]


def make_adapter(path, *, rank=64, embd=256, blocks=4):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    for block in range(blocks):
        writer.add_tensor(f"blk.{block}.attn_q.weight.lora_a", numpy.zeros((rank, embd), numpy.float32))
        writer.add_tensor(f"blk.{block}.attn_q.weight.lora_b", numpy.zeros((embd, rank), numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    make_demo_model(folder / "demo.gguf", padding_mb=24)
    shapes.dense(folder / "dense.gguf")
    shapes.dense(folder / "wide.gguf", embd=512, heads=8, kv=8, ff=4096, vocabulary=32000)
    shapes.dense(folder / "draft.gguf", embd=128, heads=4, ff=256)
    shapes.dense(folder / "words.gguf", embd=128, heads=4, kv=4, ff=256, blocks=2, vocabulary=100_000)
    shapes.sliding(folder / "sliding.gguf")
    shapes.experts(folder / "experts.gguf")
    shapes.experts(folder / "many-experts.gguf", ff=96, count=32, used=8)
    shapes.recurrent(folder / "recurrent.gguf")
    shapes.hybrid(folder / "hybrid.gguf")
    make_adapter(folder / "lora.gguf")
    return folder


def reserved(folder, words, out):
    """Return the bytes of each kind that llama-server says it reserves.

    A later buffer takes the place of an earlier one of its context.
    """
    command = [ENGINE, *words, "-lv", "4", "--no-warmup", "-t", "1", "--port", str(free_port())]
    with out.open("w+") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process:
        end = time.monotonic() + PATIENCE
        while LOADED not in out.read_text() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        process.terminate()
    said = out.read_text()
    assert LOADED in said, said
    contexts = re.split(r"constructing llama_context", said)
    return {
        kind: sum(_last_or_sum(context, name) for context in contexts for name in names)
        for kind, names in KINDS.items()
    }


def _last_or_sum(said, name):
    sizes = [float(size) * MIB for size in re.findall(rf"CPU\w* +{name} buffer size = *([\d.]+) MiB", said)]
    return (sizes[-1] if sizes else 0.0) if name == "compute" else sum(sizes)


@pytest.mark.parametrize(
    "words",
    [
        "-m demo.gguf",
        "-m dense.gguf",
        "-m dense.gguf -fa off",
        "-m dense.gguf -ub 1024 -c 16384",
        "-m dense.gguf -np 2 -c 1000",
        "-m dense.gguf -np 3 -c 5000 -kvu",
        "-m dense.gguf -ctk q8_0 -ctv q4_0",
        "-m dense.gguf --lora lora.gguf",
        "-m dense.gguf -md draft.gguf -ctkd q8_0",
        "-m wide.gguf",
        "-m words.gguf -ub 2048",
        "-m sliding.gguf",
        "-m sliding.gguf -np 2",
        "-m sliding.gguf --swa-full",
        "-m experts.gguf",
        "-m many-experts.gguf",
        "-m recurrent.gguf",
        "-m recurrent.gguf -ub 1024 -np 2",
        "-m hybrid.gguf",
        "-m hybrid.gguf -ub 1024 -np 8",
    ],
)
def test_an_estimate_is_within_3_percent_of_what_llama_server_reserves(models, tmp_path, words):
    load = load_of(words.split())
    files = Files(
        model=read_model(models / load.model),
        draft=read_model(models / load.draft.model) if load.draft.model else None,
        adapters=tuple(read_model(models / path) for path in load.adapters),
    )
    found = estimate(files, load, gpus=0)
    real = reserved(models, words.split(), tmp_path / "log")
    total = sum(real.values())
    print(f"{words}: {total / MIB:.1f} MiB, estimated {100 * (found.total / total - 1):+.2f} %")
    assert found.total == pytest.approx(total, rel=0.03)
    if files.draft is None:
        for kind, count in real.items():
            parts = sum(part.bytes for part in found.parts if part.what is kind)
            assert parts == pytest.approx(count, rel=0.1, abs=0.02 * MIB), kind
