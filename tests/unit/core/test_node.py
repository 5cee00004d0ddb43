"""All servers of a node on a fake machine."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.node import NodeSupervisor
from supervisor_app.core.sightings import MemorySample, ProcessUsage, Slots
from supervisor_app.core.status import Status
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
    settle,
)
from tests.deadline import DEADLINE
from tests.unit.core.running import running


class Node:
    def __init__(self, *servers) -> None:
        self.clock = FakeClock()
        self.processes = FakeProcesses(self.clock)
        self.store = InMemoryStore(servers=list(servers))
        self.publisher = RecordingPublisher()
        self.probe = FakeProbe()
        self.footprints = FakeFootprints()
        self.contexts = FakeContexts()
        self.supervisor = NodeSupervisor(
            store=self.store,
            publisher=self.publisher,
            processes=self.processes,
            probe=self.probe,
            clock=self.clock,
            footprints=self.footprints,
            contexts=self.contexts,
            chance=lambda: 1.0,
        )

    def snapshot(self, name: str):
        return next(seen for seen in reversed(self.publisher.snapshots) if seen.name == name)

    def status(self, name: str = "default") -> Status | None:
        seen = [snapshot.status for snapshot in self.publisher.snapshots if snapshot.name == name]
        return seen[-1] if seen else None


def node(*servers):
    return running(Node(*servers), ending=10)


async def test_every_server_of_the_node_is_started():
    async with node(make_config("a"), make_config("b", spec=make_spec(9000))) as n:
        assert n.status("a") is n.status("b") is Status.READY
        assert len(n.processes.alive) == 2


async def test_servers_that_die_together_do_not_come_back_together():
    async with node(*(make_config(f"s{i}", spec=make_spec(9000 + i)) for i in range(8))) as n:
        assert all(n.status(f"s{i}") is Status.READY for i in range(8))
        for process in list(n.processes.alive):
            process.die(signal=9)
        await n.clock.advance(0.5)
        waits = [n.snapshot(f"s{i}").next_retry_at for i in range(8)]
        assert len({round(at - min(waits), 2) for at in waits}) == 4  # five at once, the others apart
        await n.clock.advance(3)
        assert all(n.status(f"s{i}") is Status.READY for i in range(8))


async def test_a_server_that_is_added_later_is_started():
    async with node() as n:
        n.store.servers.append(make_config())
        n.supervisor.nudge()
        await n.clock.advance(1)
        assert n.status() is Status.READY


async def test_a_lost_nudge_costs_a_second():
    async with node(make_config()) as n:
        n.store.servers[0] = make_config(desired_running=False, generation=2)
        await n.clock.advance(1.1)
        assert n.status() is Status.INITIAL


async def test_a_deleted_server_is_stopped_and_its_page_told():
    async with node(make_config()) as n:
        n.store.servers.clear()
        await n.clock.advance(3)
        assert n.processes.alive == []
        assert n.publisher.gone == ["default"]


async def test_a_server_deleted_and_made_anew_runs_again():
    async with node(make_config()) as n:
        n.processes.last.stubborn = True
        n.store.servers.clear()
        await n.clock.advance(1)
        n.store.servers.append(make_config())
        await n.clock.advance(10)
        assert len(n.processes.alive) == 1
        assert n.status() is Status.READY


async def test_while_the_database_is_away_the_servers_go_on_and_recover(caplog):
    async with node(make_config()) as n:
        n.store.down = True
        await n.clock.advance(3)
        n.processes.last.die(signal=9)
        await n.clock.advance(3)
        assert len(n.processes.alive) == 1
        complaints = [r for r in caplog.records if "The servers go on as they are" in r.message]
        assert len(complaints) == 1
        n.store.down = False
        await n.clock.advance(3)
        assert n.store.changes[-1].snapshot.status is Status.READY


async def test_a_database_that_cannot_be_written_to_is_told_once_each_time(caplog):
    async with node(make_config()) as n:
        for _ in range(2):
            n.store.full = True
            await n.clock.advance(30)
            n.store.full = False
            await n.clock.advance(10)
        complaints = [r for r in caplog.records if "The servers go on as they are" in r.message]
        assert len(complaints) == 2


async def test_the_readers_hear_a_heartbeat():
    async with node(make_config()) as n:
        beats = len(n.store.beats)
        await n.clock.advance(20)
        assert 3 <= len(n.store.beats) - beats <= 5


async def test_devices_are_surveyed_every_ten_seconds_of_a_run_and_told_with_a_heartbeat():
    async with node(make_config()) as n:
        await n.clock.advance(12)
        n.processes.surveyed.clear()
        n.store.surveys.clear()
        await n.clock.advance(30)
        assert n.processes.surveyed == [[100]] * 3
        assert len(n.store.surveys) == 3


async def test_devices_are_looked_at_anew_when_a_server_has_started_or_ended():
    async with node(make_config()) as n:
        await n.clock.advance(2)
        assert n.processes.surveyed == [[], [100]]
        n.store.servers[0] = make_config(desired_running=False, generation=2)
        await n.clock.advance(5)
        assert n.processes.surveyed == [[], [100], []]


async def test_each_server_hears_what_it_was_seen_to_use():
    async with node(make_config()) as n:
        gpu = Device(id="GPU-1", name="GPU 0", total=8, free=1, users={100: 3})
        n.processes.survey = Survey((gpu,))
        process = n.processes.last
        process.memory = MemorySample(at=0.0, anon=5)
        process.used = ProcessUsage(connections=1)
        n.probe.working = Slots(answered=True, busy=True, mark=1, working=1, total=1)
        await n.clock.advance(30)
        assert n.footprints.lessons[0].devices == {"host": 5, "GPU-1": 3}


async def test_devices_are_looked_at_once_a_minute_while_no_server_runs():
    async with node() as n:
        await n.clock.advance(100)
        assert n.processes.surveyed == [[], []]


async def test_devices_are_not_looked_at_again_while_a_driver_does_not_answer():
    async with node(make_config()) as n:
        await n.clock.advance(2)
        n.processes.surveyed.clear()
        n.processes.survey_held = asyncio.Event()
        await n.clock.advance(60)
        assert len(n.processes.surveyed) == 1
        n.processes.survey_held.set()
        await n.clock.advance(15)
        assert len(n.processes.surveyed) > 1


async def test_a_look_at_devices_for_which_there_is_no_thread_is_taken_again():
    async with node(make_config()) as n:
        n.processes.survey_error = OSError("no thread")
        await n.clock.advance(20)
        n.store.surveys.clear()
        n.processes.survey_error = None
        await n.clock.advance(20)
        assert n.store.surveys


async def test_old_rows_are_pruned_now_and_then_until_none_is_left(monkeypatch):
    monkeypatch.setattr("supervisor_app.core.node.PRUNE_SECONDS", 300.0)  # not 3600: each is some steps
    async with node(make_config()) as n:
        await n.clock.advance(50)
        assert n.store.prunes == 0, "it has just been started"
        n.store.prunable = 3
        await n.clock.advance(20)
        assert n.store.prunes == 3
        await n.clock.advance(200)
        assert n.store.prunes == 3
        await n.clock.advance(200)
        assert n.store.prunes == 4


async def test_pruning_that_failed_goes_on_when_the_database_is_back():
    async with node(make_config()) as n:
        n.store.down = True
        await n.clock.advance(100)
        n.store.down = False
        await n.clock.advance(2)
        assert n.store.prunes == 1


async def test_the_logs_are_kept_within_bounds_and_a_full_disk_is_told(caplog):
    async with node(make_config()) as n:
        await n.clock.advance(6)
        assert n.processes.trimmed
        for _ in range(2):
            n.processes.trim_error = OSError(28, "No space left on device")
            await n.clock.advance(6)
            n.processes.trim_error = None
            await n.clock.advance(6)
        complaints = [r.message for r in caplog.records if r.levelname == "ERROR"]
        assert len([each for each in complaints if "No space left on device" in each]) == 2, "once each time"
        # That it was small for a while proves nothing: what was cut has to grow again first.
        for error, due in [
            (OSError(28, "Still full"), True),
            (None, False),
            (OSError(28, "Still full"), True),
        ]:
            n.processes.trim_error, n.processes.trim_due = error, due
            await n.clock.advance(6)
        complaints = [r.message for r in caplog.records if r.levelname == "ERROR"]
        assert len([each for each in complaints if "Still full" in each]) == 1
        assert n.status() is Status.READY


async def test_shutdown_stops_all_together_and_saves():
    async with node(make_config("a"), make_config("b", spec=make_spec(9000))) as n:
        pass
    assert n.processes.alive == []
    assert n.status("a") is n.status("b") is Status.INITIAL
    assert {change.snapshot.name: change.snapshot.status for change in n.store.changes} == {
        "a": Status.INITIAL,
        "b": Status.INITIAL,
    }


async def test_force_kills_what_ignores_sigterm():
    built = Node(make_config())
    built.processes.stubborn = True
    task = asyncio.create_task(built.supervisor.run())
    await built.clock.advance(2)
    task.cancel()
    ending = asyncio.create_task(built.supervisor.shutdown())
    await settle()
    assert not ending.done()
    built.supervisor.force()
    await settle()
    assert built.processes.alive == []
    await asyncio.wait_for(ending, DEADLINE)


async def test_force_before_shutdown_counts_too():
    built = Node(make_config())
    built.processes.stubborn = True
    task = asyncio.create_task(built.supervisor.run())
    await built.clock.advance(2)
    task.cancel()
    built.supervisor.force()
    await asyncio.wait_for(built.supervisor.shutdown(), DEADLINE)
    assert built.processes.alive == []


async def test_a_bug_in_one_server_ends_the_supervisor_with_it():
    built = Node(make_config())

    async def broken(name, spec):
        raise RuntimeError("bug")

    built.processes.port_holder = broken
    task = asyncio.create_task(built.supervisor.run())
    await built.clock.advance(3)
    with pytest.raises(RuntimeError, match="bug"):
        await asyncio.wait_for(task, DEADLINE)


async def test_shutdown_of_a_node_without_servers_is_immediate(caplog):
    caplog.set_level(logging.INFO)
    async with node():
        pass


async def test_a_supervisor_can_end_without_its_servers():
    built = Node(make_config())
    task = asyncio.create_task(built.supervisor.run())
    await built.clock.advance(2)
    task.cancel()
    await asyncio.wait_for(built.supervisor.release(), DEADLINE)
    assert len(built.processes.alive) == 1
    assert built.processes.last.forgotten
    assert built.store.changes[-1].snapshot.status is Status.READY


async def test_release_waits_for_a_process_that_is_being_spawned():
    built = Node(make_config())
    gate = asyncio.Event()
    spawn = built.processes.spawn

    async def slow_spawn(name, spec):
        await gate.wait()
        return await spawn(name, spec)

    built.processes.spawn = slow_spawn
    task = asyncio.create_task(built.supervisor.run())
    await built.clock.advance(2)
    task.cancel()
    ending = asyncio.create_task(built.supervisor.release())
    await built.clock.advance(0.1)
    assert not ending.done()
    gate.set()
    await built.clock.advance(1)
    await asyncio.wait_for(ending, DEADLINE)
    assert len(built.processes.alive) == 1
    assert built.store.changes[-1].identity == built.processes.last.identity


async def test_release_of_a_node_without_servers_is_immediate():
    await asyncio.wait_for(Node().supervisor.release(), DEADLINE)


async def test_gateways_report_passing_answers_to_the_supervisor():
    async with node(make_config()) as n:
        n.supervisor.moved(["somebody-elses", "default"])
        assert n.status() is Status.READY


async def test_conversations_of_servers_that_keep_nothing_are_deleted_once():
    keeping = make_config("keeps", spec=replace(make_spec(8135), slot_dir="/data/slots/keeps"))
    async with node(make_config("default"), keeping) as built:
        await built.clock.advance(10)
        assert built.contexts.forgotten == ["default"]
        built.store.servers = [make_config("default"), replace(keeping, context_refusal="A key isolates.")]
        await built.clock.advance(2)
        assert built.contexts.forgotten == ["default", "keeps"]


async def test_saved_conversations_go_with_their_server_and_with_time():
    keeping = make_config("keeps", spec=replace(make_spec(8135), slot_dir="/data/slots/keeps"))
    async with node(keeping) as built:
        built.store.servers = []
        await built.clock.advance(10)
        assert built.contexts.forgotten == ["keeps"]
        assert built.contexts.prunes == 0
        await built.clock.advance(60)
        assert built.contexts.prunes == 1
