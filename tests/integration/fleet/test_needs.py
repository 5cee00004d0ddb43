"""Needs of a node's servers: asked, learned, kept, and shown by those who read them."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys

import pytest
from django.db import OperationalError
from django.utils import timezone

from supervisor_app.core.devices import HOST, Device
from supervisor_app.core.placement.world import Source
from supervisor_app.core.sightings import Identity
from supervisor_app.core.spec import LaunchSpec
from supervisor_app.fleet import footprint_rows, launches, needs, retention
from supervisor_app.fleet.footprint_rows import known_needs
from supervisor_app.fleet.models import Footprint, LlamaServer, ServerState
from supervisor_app.fleet.needs import NodeFootprints
from tests import shapes
from tests.deadline import DEADLINE
from tests.integration.building import db, make_server, make_state

MIB = 2**20
DEVICES = (
    Device(id=HOST, name="Host memory", total=64 * 2**30, free=40 * 2**30),
    Device(id="GPU-1", name="GPU 0: NVIDIA L4", total=24 * 2**30, free=20 * 2**30),
)
PEAK = {HOST: 300 * MIB, "GPU-1": 900 * MIB}
RUN = Identity(pid=7, start=1, boot_id="boot")
OTHER_RUN = Identity(pid=8, start=2, boot_id="boot")
LOADED = (
    "0.00.200.000 I load_tensors:        CUDA0 model buffer size =   800.00 MiB",
    "0.00.210.000 I load_tensors:   CPU_Mapped model buffer size =   100.00 MiB",
    "0.00.220.000 I sched_reserve:      CUDA0 compute buffer size =    50.00 MiB",
    "0.00.230.000 I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 4096",
)
ENGINE = """#!{python}
import sys
print("version: 8763 (ff5ef8278)", file=sys.stderr)
"""
TOOL = """#!{python}
import sys
assert "--fit-print" in sys.argv and "-c" in sys.argv, sys.argv
print("CUDA0 7401 814 517 ")
print("host 1280 0 154 ")
"""


def program(path, text):
    path.write_text(text.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def shape(tmp_path_factory):
    return shapes.dense(tmp_path_factory.mktemp("models") / "dense.gguf")


@pytest.fixture
def spec(shape, tmp_path):
    model = shutil.copy(shape, tmp_path / "model.gguf")
    engine = program(tmp_path / "llama-server", ENGINE)
    return spec_of(model, engine)


def spec_of(model, engine="", *flags):
    command = (engine,) if engine else ()
    args = ("-m", str(model), "-c", "4096", *flags)
    return LaunchSpec(host="127.0.0.1", port=1, command=command, args=args, model_path=str(model))


@pytest.fixture
async def node(transactional_db):
    await db(lambda: make_state(make_server("big", node="here")))
    built = NodeFootprints("here", devices=lambda: DEVICES)
    yield built
    built.close()


async def until(look, condition):
    """Look at the database until it is so; return what was seen."""
    async with asyncio.timeout(DEADLINE):
        while not condition(seen := await db(look)):
            await asyncio.sleep(0.01)
    return seen


async def saved(condition):
    """Wait until there is a footprint that is so."""
    await until(Footprint.objects.first, lambda row: row is not None and condition(row))


async def test_a_need_without_any_run_is_an_estimate_with_remedies(node, spec):
    need = await node.need("big", spec)
    assert (need.source, need.build, need.runs) == (Source.ESTIMATED, "b8763", 0)
    assert set(need.devices) == {HOST, "GPU-1"}
    total = sum(need.devices.values())
    flags = [remedy.flags for remedy in need.remedies]
    assert {"-c 2048", "-c 1024", "-ctk q8_0 -ctv q8_0"} <= set(flags)
    assert all(sum(remedy.devices.values()) < total for remedy in need.remedies)
    assert not need.shrinks


async def test_the_engines_own_account_is_better_than_the_estimate(node, spec):
    node.told("big", spec, LOADED)
    need = await node.need("big", spec)
    assert (need.source, need.devices) == (Source.TOLD, {"GPU-1": 850 * MIB, HOST: 100 * MIB})


async def test_the_tool_beside_the_engine_is_asked_before_the_first_start(node, spec, tmp_path):
    program(tmp_path / "llama-fit-params", TOOL)
    need = await node.need("big", spec)
    assert (need.source, need.devices) == (Source.TOLD, {"GPU-1": 8732 * MIB, HOST: 1434 * MIB})


async def test_a_tool_that_knows_no_such_flag_leaves_the_estimate(node, spec, tmp_path):
    program(tmp_path / "llama-fit-params", "#!{python}\nraise SystemExit(1)\n")
    assert (await node.need("big", spec)).source is Source.ESTIMATED


async def test_the_measured_need_of_runs_is_best_and_a_run_counts_once(node, spec):
    node.learned("big", spec, PEAK, run=RUN)
    node.learned("big", spec, {**PEAK, HOST: 400 * MIB}, run=RUN)
    node.learned("big", spec, PEAK, run=OTHER_RUN)
    need = await node.need("big", spec)
    assert (need.source, need.runs) == (Source.MEASURED, 2)
    assert need.devices == {**PEAK, HOST: 400 * MIB}


async def test_remedies_save_of_what_was_measured_what_they_save_of_the_estimate(node, spec):
    before = await node.need("big", spec)
    node.learned("big", spec, PEAK, run=RUN)
    after = await node.need("big", spec)
    for estimated, scaled in zip(before.remedies, after.remedies, strict=True):
        assert estimated.flags == scaled.flags
        saved_bytes = before.devices["GPU-1"] - estimated.devices["GPU-1"]
        assert scaled.devices["GPU-1"] == PEAK["GPU-1"] - saved_bytes


async def test_a_death_for_want_of_memory_is_known_when_it_is_asked_again(node, spec):
    node.learned("big", spec, PEAK, run=RUN)
    node.learned("big", spec, {"GPU-1": 1000 * MIB}, out_of_memory=True, run=OTHER_RUN)
    need = await node.need("big", spec)
    assert need.devices == {HOST: PEAK[HOST], "GPU-1": 1200 * MIB}


async def test_the_next_supervisor_knows_what_was_learned_and_so_do_its_readers(node, spec):
    await node.need("big", spec)
    node.learned("big", spec, PEAK, run=RUN)
    await saved(lambda row: row.runs == 1)
    next_one = NodeFootprints("here", devices=lambda: DEVICES)
    next_one.learned("big", spec, PEAK, run=RUN)  # goes on under it
    need = await next_one.need("big", spec)
    next_one.close()
    assert (need.source, need.runs, need.devices) == (Source.MEASURED, 1, PEAK)
    known = (await db(known_needs))["big"]
    assert (known.devices, known.runs, known.build) == (PEAK, 1, "b8763")


async def test_a_copy_of_the_model_needs_the_same_and_other_flags_do_not(node, spec, tmp_path):
    node.learned("big", spec, PEAK, run=RUN)
    await node.need("big", spec)
    copy = spec_of(shutil.copy(spec.model_path, tmp_path / "copy.gguf"), spec.command[0])
    assert (await node.need("other", copy)).source is Source.MEASURED
    for flags in (["-ngl", "1"], ["-np", "2"], ["-ctk", "q8_0"]):
        other = spec_of(spec.model_path, spec.command[0], *flags)
        assert (await node.need("other", other)).source is Source.ESTIMATED
    same = spec_of(spec.model_path, spec.command[0], "--alias", "x", "--metrics")
    assert (await node.need("other", same)).source is Source.MEASURED


async def test_a_run_teaches_of_the_file_that_it_loaded_and_not_of_one_that_took_its_place(
    node, spec, tmp_path
):
    node.told("big", spec, (), RUN)
    before = await node.need("big", spec)
    os.replace(shapes.dense(tmp_path / "new.gguf", embd=512, heads=8), spec.model_path)
    node.learned("big", spec, PEAK, run=RUN)
    new = await node.need("big", spec)
    assert new.source is Source.ESTIMATED
    assert sum(new.devices.values()) > sum(before.devices.values())


async def test_a_start_that_dies_before_it_is_ready_tells_of_the_file_that_is_there(node, spec, tmp_path):
    node.told("big", spec, (), RUN)
    await node.need("big", spec)
    os.replace(shapes.dense(tmp_path / "new.gguf", embd=512, heads=8), spec.model_path)
    before = (await node.need("big", spec)).devices["GPU-1"]
    node.learned("big", spec, {"GPU-1": 0}, out_of_memory=True, run=OTHER_RUN)
    assert (await node.need("big", spec)).devices["GPU-1"] == pytest.approx(1.2 * before)


async def test_when_nothing_has_changed_asking_reads_no_file(node, spec, monkeypatch):
    first = await node.need("big", spec)
    for name in ("read_files", "_contents", "build_of"):
        monkeypatch.setattr(launches, name, None)
    assert await node.need("big", spec) == first


@pytest.mark.parametrize("text", [b"", b"not a model"])
async def test_a_model_that_cannot_be_read_is_unknown_until_it_was_measured(node, spec, tmp_path, text):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(text)
    launch = spec_of(broken, spec.command[0])
    assert (await node.need("big", launch)).source is Source.UNKNOWN
    node.learned("big", launch, PEAK, run=RUN)
    assert (await node.need("big", launch)).source is Source.MEASURED


@pytest.mark.parametrize("flags", [["-c", "many"], ["-c"]])
async def test_flags_that_llama_server_would_not_take_are_unknown(node, spec, flags):
    assert (await node.need("big", spec_of(spec.model_path, "", *flags))).source is Source.UNKNOWN


async def test_while_the_database_is_away_the_estimate_counts_and_nothing_learned_is_lost(
    node, spec, monkeypatch
):
    def fail(*_):
        raise OperationalError("away")

    with monkeypatch.context() as patched:
        patched.setattr(needs, "load_records", fail)
        patched.setattr(needs, "save_records", fail)
        node.learned("big", spec, PEAK, run=RUN)
        assert (await node.need("big", spec)).source is Source.ESTIMATED
    assert (await node.need("big", spec)).source is Source.MEASURED
    await saved(lambda row: row.measured == PEAK)


async def test_a_server_asked_of_before_its_state_is_saved_is_linked_later(node, spec):
    await db(lambda: ServerState.objects.all().delete())
    await node.need("big", spec)
    await saved(lambda _: True)
    await db(lambda: make_state(LlamaServer.objects.get(name="big")))
    async with asyncio.timeout(DEADLINE):
        while "big" not in await db(known_needs):
            await node.need("big", spec)


@pytest.mark.django_db
def test_footprints_that_no_server_goes_by_are_deleted_but_for_the_newest(monkeypatch):
    monkeypatch.setattr(retention, "FOOTPRINTS_KEPT", 2)
    rows = [
        Footprint.objects.create(node="here", identity=str(number), build="", model="m", flags="")
        for number in range(5)
    ]
    elsewhere = Footprint.objects.create(node="there", identity="1", build="", model="m", flags="")
    make_state(make_server("big", node="here"), footprint=rows[0])
    while retention.prune("here", timezone.now()):
        pass
    assert set(Footprint.objects.all()) == {rows[0], rows[3], rows[4], elsewhere}


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (None, ["host", "GPU-a", "GPU-b"]),
        ("1", ["host", "GPU-b"]),
        ("1,0", ["host", "GPU-b", "GPU-a"]),
        ("GPU-b", ["host", "GPU-b"]),
        ("", ["host"]),
        ("-1", ["host"]),
        ("0,7,1", ["host", "GPU-a"]),
    ],
)
def test_a_server_is_estimated_on_the_gpus_that_its_environment_leaves_it(words, seen):
    devices = [Device(id=name, name=name, total=1, free=1) for name in ("host", "GPU-a", "GPU-b")]
    environment = {} if words is None else {"CUDA_VISIBLE_DEVICES": words}
    assert [device.id for device in launches.visible(devices, environment)] == seen


def test_rows_and_records_have_the_same_columns():
    fields = {field.name for field in Footprint._meta.get_fields()}
    assert set(footprint_rows._PLAIN) <= fields
