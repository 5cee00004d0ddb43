"""Servers that were not loaded at the start for want of room: they begin once there is some."""

from __future__ import annotations

from dataclasses import replace

from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.memory_rules import MemoryRules
from supervisor_app.core.room.recalls import RECALL_SECONDS
from supervisor_app.core.spec import Claim
from tests.unit.core.rooming import MB, PORTS, RULES, need, node

A_FIRST = {"a": Claim(priority=2), "b": Claim(priority=1)}


async def stop(n, name):
    at = list(PORTS).index(name)
    config = n.store.servers[at]
    n.store.servers[at] = replace(config, desired_running=False, generation=config.generation + 1)
    n.supervisor.nudge()
    await n.clock.advance(5)


async def test_a_server_begins_once_another_has_left_its_room():
    async with node(claims=A_FIRST) as n:
        assert n.loaded == {"a"}
        await stop(n, "a")
        assert n.loaded == {"b"}
        assert n.snapshot("c").unloaded


async def test_a_server_begins_once_other_programs_give_memory_back():
    def crowded(built):
        built.footprints.needs = {name: need(60, "GPU-1") for name in PORTS}
        built.processes.survey = seen(free=70, ours=0)

    def seen(free, ours):
        gpu = Device(id="GPU-1", name="GPU 0: A", total=200 * MB, free=free * MB, ours=ours * MB)
        return Survey((gpu,))

    async with node(MemoryRules(reserve_mb=0, min_resident_seconds=0), claims=A_FIRST, prepare=crowded) as n:
        n.processes.survey = seen(free=10, ours=60)
        assert n.loaded == {"a"}
        n.processes.survey = seen(free=80, ours=60)
        await n.clock.advance(RECALL_SECONDS + 5)
        assert n.loaded == {"a", "b"}
        assert n.snapshot("c").unloaded


async def test_a_larger_budget_lets_it_begin():
    async with node(claims=A_FIRST) as n:
        n.store.memory_rules = replace(RULES, budget_mb={"host": 130})
        await n.clock.advance(5)
        assert n.loaded == {"a", "b"}


async def test_a_place_of_a_group_counts_as_room():
    rules = replace(RULES, budget_mb={}, groups={"big": 1})
    async with node(rules, claims={"a": Claim(group="big"), "b": Claim(group="big")}) as n:
        assert n.loaded == {"a", "c"}
        assert n.snapshot("b").detail == (
            "Not loaded: `b` has no place: 1 server of the group `big` may be loaded at a time; there is `a`. "
            "It is loaded once there is room, or by the next request."
        )
        await stop(n, "a")
        assert n.loaded == {"b", "c"}


async def test_the_room_of_a_server_that_is_tried_again_is_not_given_away():
    async with node(claims=A_FIRST) as n:
        n.process("a").die(signal=9)
        await n.clock.advance(RECALL_SECONDS * 3)
        assert n.loaded == {"a"}


async def test_a_server_that_made_room_does_not_come_back_by_itself():
    async with node(claims=A_FIRST) as n:
        await n.ask("b")
        await n.ask("c")
        await stop(n, "c")
        await n.clock.advance(RECALL_SECONDS * 3)
        assert n.loaded == set()


async def test_a_server_that_was_stopped_meanwhile_stays_so():
    async with node(claims=A_FIRST) as n:
        await stop(n, "b")
        await stop(n, "a")
        await n.clock.advance(RECALL_SECONDS * 3)
        assert n.loaded == {"c"}


async def test_a_smaller_configuration_is_noticed():
    async with node(claims=A_FIRST) as n:
        n.footprints.needs["b"] = need(40)
        await n.clock.advance(RECALL_SECONDS + 5)
        assert n.loaded == {"a", "b"}


async def test_a_server_that_rests_names_those_that_have_the_room_now_and_not_each_number():
    async with node(claims=A_FIRST) as n:
        told = n.snapshot("c")
        assert "`a` holds 60.0 MiB." in told.detail
        n.store.memory_rules = replace(RULES, budget_mb={"host": 110})
        await n.clock.advance(RECALL_SECONDS + 1)
        assert n.snapshot("c") == told
        await n.ask("b", RECALL_SECONDS + 5)
        now = n.snapshot("c")
        assert "Free are 50.0 MiB of the 110 MiB that `budget_mb` allows; `b` holds 60.0 MiB." in now.detail
        assert now.unloaded


async def test_without_rules_all_that_rest_begin():
    async with node(claims=A_FIRST) as n:
        n.store.memory_rules = None
        await n.clock.advance(5)
        assert n.loaded == {"a", "b", "c"}
