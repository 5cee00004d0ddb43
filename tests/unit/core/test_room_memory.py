"""Room for servers by the memory that there really is, and decisions that are on their way."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.lifecycle import Phase, RoomAwaited, RoomGiven, State
from supervisor_app.core.memory_rules import MemoryRules
from supervisor_app.core.room.orders import GATE_SECONDS
from supervisor_app.core.room.reading_ahead import room_for_files
from supervisor_app.core.room.room import Room
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import Status
from supervisor_app.core.testing import (
    FakeClock,
    FakeFootprints,
    FakeProcesses,
    make_config,
)
from supervisor_app.core.use import Use
from tests.unit.core.rooming import MB, PORTS, RULES, need, node

# --- Memory --------------------------------------------------------------------------------------------


def gpu(free: int, ours: int = 0) -> Survey:
    return Survey((Device(id="GPU-1", name="GPU 0: A", total=100 * MB, free=free * MB, ours=ours * MB),))


async def test_a_start_waits_until_the_memory_of_a_gpu_is_really_back(monkeypatch):
    monkeypatch.setattr("supervisor_app.core.room.returning.NOISE", MB)
    rules = MemoryRules(reserve_mb=0, min_resident_seconds=0)

    def on_gpu(built):
        built.footprints.needs = {name: need(60, "GPU-1") for name in PORTS}
        built.processes.survey = gpu(free=100)

    async with node(rules, prepare=on_gpu) as n:
        assert n.loaded == {"a"}
        n.processes.survey = gpu(free=40, ours=60)
        n.probe.busy.add(PORTS["a"])
        await n.ask("b", 5)
        n.probe.busy.clear()
        n.process("a").stubborn = True
        await n.clock.advance(2)
        n.processes.survey = gpu(free=40)  # gone, and its memory is not back
        n.process("a").die(code=0)
        await n.clock.advance(3)
        assert n.loaded == set()
        assert n.snapshot("b").status is Status.STARTING
        n.processes.survey = gpu(free=100)
        await n.clock.advance(1)
        assert n.loaded == {"b"}


async def test_memory_that_strangers_take_is_not_for_servers():
    def crowded(built):
        built.footprints.needs = {name: need(60, "GPU-1") for name in PORTS}
        built.processes.survey = gpu(free=50)

    async with node(MemoryRules(reserve_mb=0), prepare=crowded) as n:
        assert set(n.statuses.values()) == {"error"}
        assert "other programs use 50.0 MiB" in n.snapshot("a").detail
        n.processes.survey = gpu(free=100)
        await n.clock.advance(5)
        assert n.loaded == {"a"}


async def test_a_budget_for_a_device_that_is_not_there_is_told_once(caplog):
    async with node(replace(RULES, budget_mb={"host": 100, "GPU 7": 5})) as n:
        await n.ask("b")
        told = [record for record in caplog.records if "budget_mb names GPU 7" in record.message]
        assert len(told) == 1


async def test_a_server_that_runs_out_of_memory_is_tried_again_with_more_room():
    async with node(needs={"a": 40, "b": 40}) as n:
        assert n.loaded == {"a", "b"}
        n.process("b").lines = ["ggml_cuda_error: out of memory", "CUDA error: out of memory"]
        n.footprints.needs["b"] = need(80)
        n.process("b").die(signal=6)
        await n.clock.advance(5)
        assert n.loaded == {"b"}
        assert n.snapshot("a").detail.startswith("Not loaded: made room for `b`.")


@pytest.mark.parametrize("name", ["a", "b"])
async def test_the_end_of_a_server_is_told_of_in_the_history(name):
    async with node() as n:
        await n.ask("b")
        await n.ask("a")
        closed = [
            event.note
            for change in n.store.changes
            if change.snapshot.name == name
            for event in change.run_events
            if getattr(event, "exit", None) == Exit(code=0)
        ]
        assert closed[0] == f"Room is made for `{'b' if name == 'a' else 'a'}`."


# --- Between a decision and what its server makes of it ------------------------------------------------


class Asks:
    """A server that asks for room, and acts on nothing that it is told."""

    def __init__(self, name):
        self.config = make_config(name)
        self.state = State(status=Status.STARTING, phase=Phase.AWAITING_ROOM, attempt=1, wished=True)
        self.has_begun = True
        self.second = self.closed_since = None
        self.pids = ()
        self.use = Use(FakeClock())
        self.load_seconds = 0.0
        self.told = []

    async def requests(self):
        return 0

    def tell(self, event):
        self.told.append(event)


@asynccontextmanager
async def asked_by(*names):
    clock, tenants = FakeClock(), {name: Asks(name) for name in names}

    async def look(pids):
        return Survey()

    room = Room(
        clock=clock,
        look=look,
        read=FakeProcesses(clock).read_ahead,
        footprints=FakeFootprints(needs=dict.fromkeys(names, need(60))),
        tenants=lambda: tenants,
        cpus=1,
    )
    room.govern(RULES, [tenant.config for tenant in tenants.values()], complete=True)
    task = asyncio.create_task(room.run())
    await clock.advance(5)
    try:
        yield room, tenants
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_given_room_is_kept_and_given_once_whenever_its_server_acts_on_that():
    async with asked_by("a", "b") as (_, tenants):
        assert tenants["a"].told == [RoomGiven(1)]
        assert {type(told) for told in tenants["b"].told} == {RoomAwaited}


async def test_a_server_that_is_gone_would_be_refused_by_nobody():
    async with asked_by("a") as (room, _):
        assert await room.may_fit("gone")


async def test_gateways_are_not_heard_where_no_room_is_made():
    async with node(None) as n:
        looks = len(n.processes.surveyed)
        n.supervisor.waits("gateway", {"a": 1})
        await n.clock.advance(0.5)
        assert len(n.processes.surveyed) == looks


# --- Reading ahead -------------------------------------------------------------------------------------


def on_host(free: int, ours: int = 0) -> Survey:
    return Survey((Device(id="host", name="Host memory", total=500 * MB, free=free * MB, ours=ours * MB),))


def roomy(built):
    built.processes.survey = on_host(free=300)


NO_RESERVE = replace(RULES, reserve_mb=0)


async def test_the_next_model_is_read_while_others_make_room_and_not_once_it_loads():
    async with node(NO_RESERVE, prepare=roomy) as n:
        assert n.processes.reading == {}
        n.store.servers[1] = replace(n.store.servers[1], generation=9)
        n.supervisor.nudge()
        await n.clock.advance(GATE_SECONDS / 2)
        assert n.processes.reading == {PORTS["b"]: (300 - 60) * MB}, "60 MB are the other one's"
        await n.clock.advance(1)
        assert n.loaded == {"b"}
        assert n.processes.reading == {}


async def test_no_model_is_read_any_more_once_nobody_wants_it_loaded():
    async with node(NO_RESERVE, prepare=roomy) as n:
        n.process("a").stubborn = True
        await n.ask("b")
        assert set(n.processes.reading) == {PORTS["b"]}
        n.store.servers[1] = replace(n.store.servers[1], desired_running=False, generation=10)
        await n.clock.advance(2)
        assert n.processes.reading == {}


async def test_a_read_that_fails_is_nobodys_error():
    def broken(built):
        roomy(built)
        built.processes.reading_error = OSError("no such file")

    async with node(NO_RESERVE, prepare=broken) as n:
        await n.ask("b")
        assert n.loaded == {"b"}


@pytest.mark.parametrize(
    ("survey", "room"),
    [(on_host(300), 170), (on_host(300, ours=60), 230), (on_host(300, ours=200), 270), (on_host(100), 0)],
    ids=["mapped pages count as free", "60 are seen to be used", "all is seen", "too little"],
)
def test_files_have_the_room_that_reserve_and_servers_leave(survey, room):
    rules = MemoryRules(reserve_mb=30)
    assert room_for_files(survey, rules, [need(60), need(40), need(9, "GPU-1")]) == room * MB


def test_there_is_no_room_for_files_on_a_host_that_cannot_be_seen():
    assert room_for_files(gpu(free=100), MemoryRules(), []) == 0
