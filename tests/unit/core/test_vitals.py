"""Vital signs of a server that serves, and a slot in the words of several builds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.machine.slot_sight import slot_of
from supervisor_app.core.sightings import MemorySample, ProcessUsage, Slot, Slots
from supervisor_app.core.testing import make_config, make_spec
from tests.unit.core.supervising import bench
from tests.unit.core.test_node import node

WORKS = Slot(id=0, task=7, works=True, processed=500, decoded=12, used=512, size=2048)


@pytest.mark.parametrize(
    ("told", "slot"),
    [
        ({"id": 3, "n_ctx": 2048, "is_processing": False}, Slot(id=3, size=2048)),
        (
            {
                "id": 0,
                "id_task": 248,
                "n_ctx": 2048,
                "is_processing": True,
                "n_prompt_tokens": 1548,
                "n_prompt_tokens_processed": 32,
                "n_prompt_tokens_cache": 1508,
                "next_token": [{"n_decoded": 0}],
            },
            Slot(id=0, task=248, works=True, cached=1508, processed=32, used=1548, size=2048),
        ),
        (
            {"is_processing": True, "n_prompt_tokens": 100, "next_token": {"n_decoded": 40}},
            Slot(id=0, works=True, decoded=40, used=100),
        ),
        (
            {"n_prompt_tokens_processed": 100, "n_decoded": 40, "next_token": []},
            Slot(id=0, processed=100, decoded=40, used=140),
        ),
        ({"id": "?", "id_task": "?", "n_ctx": -1, "n_decoded": "many"}, Slot(id=0)),
    ],
)
def test_a_slot_is_read_in_the_words_of_several_builds(told, slot):
    assert slot_of(told) == slot


async def test_a_server_that_does_not_run_has_no_vital_signs():
    async with bench(make_config(desired_running=False)) as b:
        assert b.supervisor.vitals is None


async def test_a_look_at_a_server_that_works_tells_its_slots_and_its_cpu():
    async with bench() as b:
        b.processes.last.used = ProcessUsage(cpu_seconds=100.0, connections=1)
        b.processes.last.memory = MemorySample(at=b.clock.time(), anon=5)
        b.probe.working = Slots(answered=True, busy=True, mark=1, working=1, total=1, each=(WORKS,))
        await b.clock.advance(5.5)
        vitals = b.supervisor.vitals
        assert vitals.slots == (WORKS,)
        assert vitals.memory.anon == 5
        assert vitals.cores > 0
        assert b.clock.time() - vitals.at <= 6


@pytest.mark.parametrize(("args", "size"), [((), 2048), (("-np", "2"), 4096)])
async def test_the_command_line_says_whether_slots_share_their_context(args, size):
    async with bench(make_config(spec=make_spec(args=args))) as b:
        b.processes.last.used = ProcessUsage(connections=1)
        each = (WORKS, replace(WORKS, id=1, works=False))
        b.probe.working = Slots(answered=True, busy=True, mark=1, working=1, total=2, each=each)
        await b.clock.advance(6)
        assert b.supervisor.vitals.context_size == size


async def test_slots_of_a_server_that_is_idle_again_work_no_more():
    async with bench() as b:
        b.processes.last.used = ProcessUsage(connections=1)
        b.probe.working = Slots(answered=True, busy=True, mark=1, working=1, total=1, each=(WORKS,))
        await b.clock.advance(6)
        b.probe.working = Slots(answered=False)
        await b.clock.advance(6)
        (slot,) = b.supervisor.vitals.slots
        assert (slot.works, slot.used) == (False, 512)


async def test_a_survey_tells_what_a_server_uses_of_each_gpu():
    async with node(make_config()) as n:
        (pid,) = [process.identity.pid for process in n.processes.spawned]
        gpu = Device(id="GPU-0", name="GeForce", total=100, free=10, ours=90, users={pid: 90})
        n.processes.survey = Survey((gpu,))
        await n.clock.advance(20)
        assert n.supervisor.vitals()["default"].gpus == {"GPU-0": 90}
