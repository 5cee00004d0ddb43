"""Servers of a node that do not all fit into its memory: who is loaded, who makes room, who waits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from supervisor_app.core.room.orders import GATE_SECONDS
from supervisor_app.core.spec import Claim
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import (
    FakeFootprints,
)
from tests.deadline import DEADLINE
from tests.unit.core.rooming import PORTS, RULES, node

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
            "Not loaded: `a` needs 60.0 MiB on the host. Free are 40.0 MiB of the 100 MiB that `budget_mb` "
            "allows; `b` holds 60.0 MiB. It is loaded once there is room, or by the next request."
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
    monkeypatch.setattr("supervisor_app.core.room.sight.NEED_SECONDS", 0.01)
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


async def test_a_server_that_made_room_is_not_started_by_itself_or_by_old_wishes():
    async with node() as n:
        await n.ask("b")
        await n.clock.advance(600)
        assert n.statuses == {"a": "initial", "b": "ready", "c": "initial"}
        n.process("b").die(signal=9)
        await n.clock.advance(600)
        assert n.loaded == {"b"}


async def test_an_evicted_server_comes_back_when_it_is_asked_for():
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
            "`b` needs 60.0 MiB on the host. Free are 40.0 MiB of the 100 MiB that `budget_mb` allows; "
            "`a` holds 60.0 MiB (busy, 1 request)."
        )
        n.probe.busy.clear()
        await n.clock.advance(2)
        assert n.loaded == {"b"}


PATIENT = replace(RULES, max_wait_for_busy_seconds=5)


async def test_a_busy_server_takes_nothing_new_after_a_long_wait_and_goes_once_finished():
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


async def test_a_request_that_came_before_the_gateways_knew_is_finished():
    async with node() as n:
        n.store.servers[1] = replace(n.store.servers[1], generation=9)
        n.supervisor.nudge()
        await n.clock.advance(GATE_SECONDS / 2)
        assert n.snapshot("a").draining
        n.supervisor.waits("gateway", {"b": 1})  # a decision before they know
        await n.clock.advance(GATE_SECONDS / 4)
        assert n.process("a").signals == []
        n.probe.busy.add(PORTS["a"])
        await n.clock.advance(3)
        assert n.process("a").signals == []
        n.probe.busy.clear()
        await n.clock.advance(3)
        assert n.loaded == {"b"}


async def gate_closes(n, *gateways, wanted="b"):
    """These gateways are known, and a server of which each has been told makes room; return that news."""
    for gateway in gateways:
        n.supervisor.waits(gateway, {})
    at = next(at for at, each in enumerate(n.store.servers) if each.name == wanted)
    config = n.store.servers[at]
    n.store.servers[at] = replace(config, generation=config.generation + 1, desired_running=True)
    n.supervisor.nudge()
    await n.clock.advance(GATE_SECONDS / 10)
    news = next(seen for name in PORTS for seen in [n.snapshot(name)] if seen.draining)
    return news.name, news.version


async def test_a_server_goes_as_soon_as_all_gateways_have_closed_their_gates():
    async with node() as n:
        name, version = await gate_closes(n, "one", "other")
        n.supervisor.closed("one", name, version, 0)
        await n.clock.advance(GATE_SECONDS / 10)
        assert n.process(name).signals == []
        n.supervisor.closed("other", name, version, 0)
        await n.clock.advance(GATE_SECONDS / 10)
        assert n.process(name).signals == ["TERM"]


async def test_a_gateway_that_says_nothing_has_as_long_as_it_may_need_to_hear():
    async with node() as n:
        name, version = await gate_closes(n, "one", "deaf")
        n.supervisor.closed("one", name, version, 0)
        await n.clock.advance(GATE_SECONDS / 2)
        assert n.process(name).signals == []
        await n.clock.advance(GATE_SECONDS)
        assert n.process(name).signals == ["TERM"]


async def test_a_request_that_was_let_in_just_before_the_gate_closed_has_time_to_reach_its_server():
    async with node() as n:
        name, version = await gate_closes(n, "one")
        n.supervisor.closed("one", name, version, 1)
        await n.clock.advance(GATE_SECONDS / 2)
        assert n.process(name).signals == []
        n.probe.busy.add(PORTS[name])
        await n.clock.advance(3)
        assert n.process(name).signals == []
        n.probe.busy.clear()
        await n.clock.advance(3)
        assert n.process(name).signals == ["TERM"]


async def test_a_word_about_an_earlier_gate_or_another_server_counts_for_nothing():
    async with node() as n:
        name, version = await gate_closes(n, "one")
        n.supervisor.closed("one", name, version - 1, 0)
        n.supervisor.closed("one", "b", version, 0)
        n.supervisor.closed("one", "unknown", version, 0)
        await n.clock.advance(GATE_SECONDS / 2)
        assert n.process(name).signals == []


async def test_gateways_that_a_new_supervisor_has_not_heard_of_yet_are_not_overlooked():
    async with node(settle=1) as n:
        name, version = await gate_closes(n, "one")
        n.supervisor.closed("one", name, version, 0)
        await n.clock.advance(GATE_SECONDS / 2)
        assert n.process(name).signals == []


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


async def test_servers_are_asked_for_their_requests_only_where_somebody_may_have_to_go():
    async with node(needs={"a": 60, "b": 30}) as n:
        n.store.servers[1] = replace(n.store.servers[1], desired_running=False, generation=9)
        await n.clock.advance(2)
        assert n.loaded == {"a"}
        n.probe.late.add(PORTS["a"])
        await n.ask("b")
        assert n.loaded == {"a", "b"}


async def test_a_pinned_server_stays():
    async with node(claims={"a": Claim(pinned=True)}) as n:
        await n.ask("b", 30)
        assert n.process("a").signals == []
        refused = n.snapshot("b")
        assert refused.status is Status.ERROR
        assert refused.failure is not None
        assert refused.failure.kind is FailureKind.DOES_NOT_FIT
        assert "`a` holds 60.0 MiB (pinned)" in refused.detail


async def test_a_server_that_never_fits_is_refused_before_a_try_and_starts_once_it_can():
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


async def test_servers_load_one_at_a_time():
    def slow(built):
        built.probe.answer = built.probe.answer.LOADING

    async with node(replace(RULES, budget_mb={"host": 1000}), prepare=slow) as n:
        assert n.processes.ports == [PORTS["a"]]
        assert n.snapshot("b").detail == "Waits for its turn to load: `a` loads now."
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
        assert n.loaded == {"a", "b", "c"}


async def test_more_requests_that_wait_count_for_more():
    async with node() as n:
        n.supervisor.waits("gateway", {"b": 1})
        n.supervisor.waits("gateway", {"c": 5})
        await n.clock.advance(1)
        assert n.loaded == {"a"}, "whoever waits in a gateway wakes it as well"


async def test_the_next_server_loads_while_the_post_mortem_of_the_old_one_lasts():
    async with node(claims={"b": Claim(priority=1)}) as n:
        old, written = n.process("b"), asyncio.Event()

        async def last_lines(count, since=None):
            await written.wait()
            return []

        old.last_lines = last_lines
        await n.ask("a", 5)
        assert n.statuses["b"] == "stopping"
        assert n.statuses["a"] == "ready"
        written.set()
        await n.clock.advance(1)
        assert n.statuses["b"] == "initial"


async def test_a_server_that_was_loaded_says_who_made_room_for_it():
    async with node(claims={"b": Claim(priority=1)}) as n:
        assert n.snapshot("b").loaded.startswith("Loaded in ")
        assert "made room" not in n.snapshot("b").loaded
        await n.ask("a", 5)
        assert "until `b` had made room" in n.snapshot("a").loaded
        assert n.snapshot("b").loaded == ""
