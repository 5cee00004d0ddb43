"""Servers of a node that do not all fit into its memory, on a fake machine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import pytest

from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.memory_rules import MemoryRules
from supervisor_app.core.node import NodeSupervisor
from supervisor_app.core.placement.world import Need, Source
from supervisor_app.core.sightings import Exit, Slots
from supervisor_app.core.spec import Claim
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import (
    FakeClock,
    FakeContexts,
    FakeFootprints,
    FakeProbe,
    FakeProcesses,
    InMemoryStore,
    RecordingPublisher,
    make_config,
    make_spec,
)
from tests.deadline import DEADLINE

MB = 2**20
RULES = MemoryRules(budget_mb={"host": 100}, min_resident_seconds=0)
PORTS = {"a": 9001, "b": 9002, "c": 9003}


@dataclass
class Probe(FakeProbe):
    """Answers for several servers, of which some are busy."""

    busy: set[int] = field(default_factory=set)
    """Their ports."""
    silent: set[int] = field(default_factory=set)

    async def slots(self, spec, timeout, *, may_wake):
        if spec.port in self.silent:
            return Slots(answered=False)
        works = spec.port in self.busy
        return Slots(answered=True, busy=works, mark=self.slot_checks, working=int(works), total=2)


@dataclass
class Machine(FakeProcesses):
    """With a GPU, if a survey is given."""

    survey: Survey = field(default_factory=Survey)
    ports: list[int] = field(default_factory=list)
    """In the order in which servers were spawned on them."""

    async def spawn(self, name, spec):
        self.ports.append(spec.port)
        return await super().spawn(name, spec)

    async def devices(self, pids):
        await super().devices(pids)
        return self.survey


class Node:
    """Servers a, b and c, each of which needs 60 of 100 MB unless a test says otherwise."""

    def __init__(self, rules, needs, claims) -> None:
        self.clock = FakeClock()
        self.processes = Machine(self.clock)
        self.probe = Probe()
        self.footprints = FakeFootprints(needs={name: need(size) for name, size in needs.items()})
        servers = [make_config(name, spec=make_spec(PORTS[name]), claim=claims.get(name)) for name in needs]
        self.store = InMemoryStore(servers=servers, memory_rules=rules)
        self.publisher = RecordingPublisher()
        self.supervisor = NodeSupervisor(
            store=self.store,
            publisher=self.publisher,
            processes=self.processes,
            probe=self.probe,
            clock=self.clock,
            footprints=self.footprints,
            contexts=FakeContexts(),
        )

    def snapshot(self, name):
        return [seen for seen in self.publisher.snapshots if seen.name == name][-1]

    @property
    def statuses(self) -> dict[str, str]:
        return {config.name: self.snapshot(config.name).status.value for config in self.store.servers}

    @property
    def loaded(self) -> set[str]:
        return {name for name, status in self.statuses.items() if status == "ready"}

    def process(self, name):
        """The last process of a server."""
        spawns = [at for at, port in enumerate(self.processes.ports) if port == PORTS[name]]
        return self.processes.spawned[spawns[-1]]

    async def ask(self, name: str, seconds: float = 1.0) -> None:
        """Wish for a server, as a request through the gateway does."""
        at = next(at for at, config in enumerate(self.store.servers) if config.name == name)
        config = self.store.servers[at]
        self.store.servers[at] = replace(config, generation=config.generation + 1, desired_running=True)
        self.supervisor.nudge()
        await self.clock.advance(seconds)


def need(size: int, device: str = "host") -> Need:
    return Need(devices={device: size * MB}, source=Source.MEASURED)


@asynccontextmanager
async def node(rules=RULES, *, needs=None, claims=None, prepare=None):
    built = Node(rules, needs or dict.fromkeys(PORTS, 60), claims or {})
    if prepare:
        prepare(built)
    task = asyncio.create_task(built.supervisor.run())
    await built.clock.advance(5)
    try:
        yield built
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        ending = asyncio.create_task(built.supervisor.shutdown())
        await built.clock.advance(20)
        await ending


# --- At the start --------------------------------------------------------------------------------------


async def test_without_rules_and_groups_all_are_loaded_whatever_they_need():
    async with node(None) as n:
        assert n.loaded == {"a", "b", "c"}
        assert n.processes.surveyed != []


async def test_at_the_start_the_highest_priority_is_loaded_and_the_others_say_why_not():
    async with node(claims={"b": Claim(priority=2), "c": Claim(priority=1)}) as n:
        assert n.statuses == {"a": "initial", "b": "ready", "c": "initial"}
        assert n.processes.ports == [PORTS["b"]]
        resting = n.snapshot("a")
        assert resting.unloaded
        assert resting.detail == (
            "Not loaded: `a` needs 60.0 MiB on the host. Free are 40.0 MiB. The next request loads it."
        )


async def test_priority_counts_also_where_some_ask_later_than_others():
    class Slow(FakeFootprints):
        async def need(self, name, spec):
            for _ in range(3 * (name != "b")):
                await asyncio.sleep(0)
            return await super().need(name, spec)

    def later(built):
        built.footprints.need = Slow(needs=built.footprints.needs).need
        find_ours = built.processes.find_ours

        async def found_late(name):
            await built.clock.sleep_until(0.05 * ord(name[0]) % 0.3)
            return await find_ours(name)

        built.processes.find_ours = found_late

    async with node(claims={"c": Claim(priority=2)}, prepare=later) as n:
        assert n.processes.ports == [PORTS["c"]]


async def test_a_disk_that_hangs_holds_up_the_server_alone_whose_model_is_there(monkeypatch):
    monkeypatch.setattr("supervisor_app.core.room.room.NEED_SECONDS", 0.01)
    hangs = asyncio.Event()

    class Hanging(FakeFootprints):
        async def need(self, name, spec):
            if name == "a":
                await hangs.wait()
            return await super().need(name, spec)

    def with_a_dead_disk(built):
        built.footprints.need = Hanging(needs=built.footprints.needs).need

    async with (
        node(claims={"b": Claim(priority=1)}, prepare=with_a_dead_disk) as n,
        asyncio.timeout(DEADLINE),
    ):
        while n.statuses["b"] != "ready":
            await asyncio.sleep(0.01)
            await n.clock.advance(1)
        assert n.statuses["c"] == "initial"


async def test_small_ones_are_loaded_until_the_budget_is_full():
    async with node(needs={"a": 30, "b": 60, "c": 30}) as n:
        assert n.loaded == {"a", "b"}


async def test_a_group_alone_has_room_made():
    rules = replace(RULES, budget_mb={}, groups={"big": 1})
    async with node(rules, claims={"a": Claim(group="big"), "b": Claim(group="big")}) as n:
        assert n.loaded == {"a", "c"}
        await n.ask("b")
        assert n.loaded == {"b", "c"}


async def test_a_group_without_a_table_of_rules_has_room_made_by_default_rules():
    async with node(None, claims={"a": Claim(group="x")}) as n:
        assert n.loaded == {"a", "b", "c"}, "this machine tells no memory"
        n.store.memory_rules = RULES
        n.process("b").die(signal=9)
        await n.clock.advance(5)
        assert n.snapshot("b").unloaded, "there is no room for it any more"


# --- Making room ---------------------------------------------------------------------------------------


async def test_an_idle_server_makes_room_for_one_that_is_asked_for():
    async with node() as n:
        assert n.loaded == {"a"}
        await n.ask("b")
        assert n.loaded == {"b"}
        assert n.snapshot("a").detail == "Not loaded: made room for `b`. The next request loads it."
        assert n.process("a").signals == ["TERM"]


async def test_one_that_made_room_is_not_started_by_itself_and_not_by_its_supervisor_s_wishes():
    async with node() as n:
        await n.ask("b")
        await n.clock.advance(600)
        assert n.statuses == {"a": "initial", "b": "ready", "c": "initial"}
        n.process("b").die(signal=9)
        await n.clock.advance(600)
        assert n.loaded == {"b"}


async def test_it_comes_back_when_it_is_asked_for():
    async with node() as n:
        await n.ask("b")
        await n.ask("a")
        assert n.loaded == {"a"}
        assert n.snapshot("b").unloaded


async def test_a_busy_server_is_waited_for():
    async with node() as n:
        n.probe.busy.add(PORTS["a"])
        await n.ask("b", 60)
        assert n.process("a").signals == []
        waiting = n.snapshot("b")
        assert waiting.status is Status.STARTING
        assert waiting.detail == (
            "`b` needs 60.0 MiB on the host. Free are 40.0 MiB; `a` holds 60.0 MiB (busy, 1 request)."
        )
        n.probe.busy.clear()
        await n.clock.advance(2)
        assert n.loaded == {"b"}


PATIENT = replace(RULES, max_wait_for_busy_seconds=5)


async def test_after_a_long_wait_a_busy_server_takes_no_new_requests_and_goes_once_it_has_finished():
    async with node(PATIENT) as n:
        n.probe.busy.add(PORTS["a"])
        n.supervisor.waits("gateway", {"b": 1})
        await n.ask("b", 4)
        assert not n.snapshot("a").draining
        for _ in range(6):
            n.supervisor.waits("gateway", {"b": 1})
            await n.clock.advance(2)
        draining = n.snapshot("a")
        assert (draining.status, draining.draining) == (Status.READY, True)
        assert draining.detail.endswith("It finishes what it does, and makes room for `b` then.")
        assert n.process("a").signals == []
        n.probe.busy.clear()
        await n.clock.advance(3)
        assert n.loaded == {"b"}
        assert not n.snapshot("a").draining


async def test_a_server_goes_on_once_nobody_needs_its_room_any_more():
    async with node(PATIENT) as n:
        n.probe.busy.add(PORTS["a"])
        await n.ask("b", 1)
        for _ in range(6):
            n.supervisor.waits("gateway", {"b": 1})
            await n.clock.advance(2)
        assert n.snapshot("a").draining
        n.store.servers[1] = replace(n.store.servers[1], desired_running=False, generation=9)
        await n.clock.advance(3)
        going = n.snapshot("a")
        assert (going.status, going.draining) == (Status.READY, False)
        assert n.process("a").signals == []


async def test_a_server_that_does_not_say_what_it_does_counts_as_busy():
    async with node() as n:
        n.probe.silent.add(PORTS["a"])
        await n.ask("b", 30)
        assert n.loaded == {"a"}


async def test_a_pinned_server_stays():
    async with node(claims={"a": Claim(pinned=True)}) as n:
        await n.ask("b", 30)
        assert n.process("a").signals == []
        refused = n.snapshot("b")
        assert refused.status is Status.ERROR
        assert refused.failure is not None
        assert refused.failure.kind is FailureKind.DOES_NOT_FIT
        assert "`a` holds 60.0 MiB (pinned)" in refused.detail


async def test_what_can_never_fit_is_refused_before_anything_is_tried_and_starts_once_it_can():
    async with node(needs={"a": 60, "b": 160}) as n:
        assert n.statuses == {"a": "ready", "b": "error"}
        assert n.snapshot("b").retries == 0
        assert n.processes.ports == [PORTS["a"]]
        n.store.memory_rules = replace(RULES, budget_mb={"host": 300})
        await n.clock.advance(5)
        assert n.loaded == {"a", "b"}


async def test_a_server_stays_for_as_long_as_it_is_said():
    async with node(replace(RULES, min_resident_seconds=30)) as n:
        await n.ask("b", 5)
        assert n.loaded == {"a"}
        await n.clock.advance(30)
        assert n.loaded == {"b"}


async def test_one_server_loads_at_a_time():
    def slow(built):
        built.probe.answer = built.probe.answer.LOADING

    async with node(replace(RULES, budget_mb={"host": 1000}), prepare=slow) as n:
        assert n.processes.ports == [PORTS["a"]]
        assert n.snapshot("b").detail == "`b` loads next, after `a` (loading)."
        n.probe.answer = n.probe.answer.OK
        await n.clock.advance(10)
        assert n.loaded == {"a", "b", "c"}


async def test_a_stop_by_hand_keeps_it_stopped():
    async with node() as n:
        await n.ask("b")
        n.store.servers[0] = replace(n.store.servers[0], desired_running=False, generation=9)
        await n.clock.advance(2)
        stopped = n.snapshot("a")
        assert (stopped.status, stopped.unloaded) == (Status.INITIAL, False)


async def test_when_rules_are_taken_away_those_that_wait_are_loaded():
    async with node() as n:
        n.probe.busy.add(PORTS["a"])
        await n.ask("b", 5)
        assert n.snapshot("b").status is Status.STARTING
        n.store.memory_rules = None
        await n.clock.advance(5)
        assert n.loaded == {"a", "b"}


async def test_more_requests_that_wait_count_for_more():
    async with node() as n:
        n.supervisor.waits("gateway", {"b": 1})
        n.supervisor.waits("gateway", {"c": 5})
        await n.clock.advance(1)
        assert n.loaded == {"a"}, "whoever waits in a gateway wakes it as well"


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
