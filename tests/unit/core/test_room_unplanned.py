"""Loads where no room is made: a few at a time, by priority, then by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from supervisor_app.core.lifecycle import Phase, State
from supervisor_app.core.memory_rules import MemoryRules, loads_at_once
from supervisor_app.core.placement.decisions import Start, Wait
from supervisor_app.core.placement.plan import plan
from supervisor_app.core.placement.reasons import sentence
from supervisor_app.core.placement.world import Cause, Policy, Standing, World
from supervisor_app.core.room.orders import Orders
from supervisor_app.core.room.tenants import remnant
from supervisor_app.core.room.unplanned import (
    SPAWN_SECONDS,
    TOGETHER_SECONDS,
    WEIGHTLESS,
    line_up,
    loading,
    loads,
    may_be_crowded,
)
from supervisor_app.core.room.waiting import Waiting
from supervisor_app.core.sightings import Health
from supervisor_app.core.spec import Claim, HealthPolicy
from supervisor_app.core.status import Status
from supervisor_app.core.testing import FakeClock
from tests.unit.core.placement.worlds import NOW, demand
from tests.unit.core.rooming import PORTS, node

ONE = MemoryRules(make_room=False, parallel_loads=1)
LOADS = State(status=Status.STARTING, phase=Phase.WAITING, loads_since=NOW)
ASKS = State(status=Status.STARTING, phase=Phase.AWAITING_ROOM)
HERE = State(status=Status.READY, phase=Phase.SERVING, loads_since=NOW)


# --- Who loads, and who is next ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "seconds", "expected"),
    [
        (State(), 0, False),
        (ASKS, 0, False),
        (replace(LOADS, phase=Phase.INSPECTING, has_room=True), 0, True),
        (replace(LOADS, phase=Phase.SPAWNING), 0, True),
        (replace(LOADS, phase=Phase.SPAWNING), SPAWN_SECONDS, False),
        (LOADS, 600, True),
        (replace(LOADS, fetched=0), 600, True),
        (replace(LOADS, fetched=1), 0, False),
        (replace(LOADS, fetched=1, loading=True), 0, True),
        (replace(LOADS, phase=Phase.READING_MODELS), 0, True),
        (replace(LOADS, loads_since=None), 0, False),
        (HERE, 0, False),
        (replace(LOADS, phase=Phase.ENDING), 0, False),
    ],
    ids=[
        "rests",
        "asks",
        "looks at its port again",
        "is spawned",
        "hangs while it is spawned",
        "loads for long",
        "may download",
        "downloads",
        "has downloaded",
        "answers",
        "was found loading",
        "serves",
        "is ended",
    ],
)
def test_a_server_loads_from_its_turn_until_it_serves_or_downloads(state, seconds, expected):
    assert loads(state, NOW + seconds) is expected


@dataclass
class Server:
    state: State
    second: State | None = None
    has_begun: bool = True


@pytest.mark.parametrize(
    ("servers", "given", "names", "crowded"),
    [
        ({"a": Server(LOADS)}, (), ["a"], False),
        ({"a": Server(LOADS), "b": Server(ASKS)}, (), ["a"], False),
        ({"a": Server(LOADS), "b": Server(ASKS), "c": Server(ASKS)}, (), ["a"], True),
        ({"a": Server(ASKS), "b": Server(ASKS)}, ("a",), ["a"], False),
        ({"a": Server(LOADS), "b": Server(ASKS), "c": Server(HERE, LOADS)}, (), ["a", "c (new)"], True),
        ({"a": Server(LOADS), "b": Server(ASKS), "c": Server(HERE, HERE)}, (), ["a"], False),
        ({"a": Server(LOADS), "b": Server(ASKS), "c": Server(State(), has_begun=False)}, (), ["a"], True),
    ],
    ids=["one", "both", "three", "told to", "a second process", "one that serves", "undecided"],
)
def test_places_are_taken_by_those_that_load_and_wanted_by_those_that_may_ask(servers, given, names, crowded):
    assert loading(servers, given, NOW) == names
    assert may_be_crowded(servers, given, 2, NOW) is crowded


def wants(name, cause=Cause.PRELOAD, **rest):
    return demand(name, WEIGHTLESS, cause, **rest)


def lined_up(*demands, loading=(), limit=2):
    return line_up(loading, demands, limit, NOW).decisions


@pytest.mark.parametrize(
    ("demands", "loading", "started"),
    [
        ([wants("c"), wants("a"), wants("b")], [], ["a", "b"]),
        ([wants("c"), wants("a"), wants("b")], ["x"], ["a"]),
        ([wants("c"), wants("a"), wants("b")], ["x", "y"], []),
        ([wants("a"), wants("b"), wants("c", priority=1)], ["x"], ["c"]),
        ([wants("a", priority=9), wants("b", Cause.WISH)], ["x"], ["b"]),
        ([wants("a", since=NOW), wants("b", since=NOW - TOGETHER_SECONDS)], ["x"], ["a"]),
        ([wants("a", since=NOW), wants("b", since=NOW - TOGETHER_SECONDS - 1)], ["x"], ["b"]),
    ],
    ids=["by name", "one place", "no place", "priority", "a wish", "together", "later"],
)
def test_the_next_ones_are_those_that_somebody_waits_for_then_by_priority_then_by_name(
    demands, loading, started
):
    decisions = lined_up(*demands, loading=loading)
    assert [decision.name for decision in decisions if isinstance(decision, Start)] == started
    assert all(decision.remark is None for decision in decisions if isinstance(decision, Start))


def test_servers_that_wait_say_for_whom():
    decisions = lined_up(*map(wants, "cdef"), loading=["a", "b"])
    said = [sentence(decision.reason) for decision in decisions if isinstance(decision, Wait)]
    assert said[:2] == ["Waits for its turn to load: `a`, `b` load now."] * 2
    others = "Waits for its turn to load: 2 servers load at a time, and others come first."
    assert said[2:] == [others] * 2


@pytest.mark.parametrize("busy", [0, 1, 2, 3])
def test_a_long_line_is_told_as_if_each_were_planned(busy):
    causes = [*[Cause.PRELOAD] * 30, Cause.WISH, Cause.REQUEST]
    demands = [wants(f"s{at:02}", cause, priority=at % 3, since=NOW) for at, cause in enumerate(causes)]
    names = [f"x{at}" for at in range(busy)]
    world = World(
        budgets=(),
        residents=tuple(replace(remnant(name, {}), standing=Standing.LOADING) for name in names),
    )
    expected = plan(world, demands, Policy(parallel_loads=3), NOW).decisions
    assert lined_up(*demands, loading=names, limit=3) == expected


class Waiter:
    """A server that waits, and takes note of what it is told at once."""

    def __init__(self):
        self.state = ASKS
        self.told = []

    def tell(self, event):
        self.told.append(event.why)
        self.state = replace(self.state, awaits=event.why)


async def test_a_reason_that_changes_with_each_load_is_told_once_a_second():
    clock, server = FakeClock(), Waiter()
    tenants: dict[str, Any] = {"z": server}
    orders = Orders(clock=clock, tenants=lambda: tenants, waiting=Waiting())
    for load in range(10):
        orders.carry_out(line_up([f"s{load}"], [wants("z")], 1, NOW), [wants("z")])
        await clock.advance(0.25)
    assert server.told == [f"Waits for its turn to load: `s{at}` loads now." for at in (0, 4, 8)]
    server.state = ASKS
    orders.carry_out(line_up(["s10"], [wants("z")], 1, NOW), [wants("z")])
    assert server.told[-1] == "Waits for its turn to load: `s10` loads now.", (
        "the first of a new wait, at once"
    )


@pytest.mark.parametrize(
    ("rules", "cpus", "expected"),
    [(None, 1, 8), (None, 16, 16), (MemoryRules(), 1, 8), (MemoryRules(parallel_loads=2), 16, 2)],
)
def test_how_many_load_at_once(rules, cpus, expected):
    assert loads_at_once(rules, cpus) == expected


# --- A node --------------------------------------------------------------------------------------------


def slow(built):
    built.probe.answer = Health.LOADING


async def test_servers_load_in_their_order_and_say_so():
    async with node(ONE, claims={"c": Claim(priority=1)}, prepare=slow) as n:
        assert n.processes.ports == [PORTS["c"]]
        assert n.snapshot("a").detail == "Waits for its turn to load: `c` loads now."
        n.probe.answer = Health.OK
        await n.clock.advance(10)
        assert n.processes.ports == [PORTS[name] for name in "cab"]
        assert n.loaded == {"a", "b", "c"}


async def test_where_there_is_a_place_for_each_nobody_is_waited_for():
    """Not even for a server of which nothing is known yet: its disk hangs."""
    async with node(replace(ONE, parallel_loads=3), prepare=slow, settle=0.1) as n:
        assert len(n.processes.ports) == 3


async def test_a_start_by_hand_goes_first():
    async with node(ONE, prepare=slow) as n:
        assert n.processes.ports == [PORTS["a"]]
        await n.ask("c")
        n.probe.answer = Health.OK
        await n.clock.advance(10)
        assert n.processes.ports == [PORTS[name] for name in "acb"]


async def test_a_stop_ends_the_wait_at_once():
    async with node(ONE, prepare=slow) as n:
        n.store.servers[1] = replace(n.store.servers[1], desired_running=False, generation=9)
        n.supervisor.nudge()
        await n.clock.advance(0.1)
        assert n.statuses == {"a": "starting", "b": "initial", "c": "starting"}
        n.probe.answer = Health.OK
        await n.clock.advance(10)
        assert n.loaded == {"a", "c"}


async def test_a_server_that_never_gets_ready_gives_its_place_up():
    def stuck(built):
        built.probe.answer = Health.REFUSED
        built.store.servers[0] = replace(built.store.servers[0], health=HealthPolicy(max_checks=10))

    async with node(ONE, prepare=stuck, settle=9) as n:
        assert n.processes.ports == [PORTS["a"]]
        await n.clock.advance(9)
        assert n.processes.ports[:2] == [PORTS["a"], PORTS["b"]]


async def test_servers_that_die_together_load_in_turn_again():
    async with node(ONE, settle=10) as n:
        assert n.loaded == {"a", "b", "c"}
        n.probe.answer = Health.LOADING
        for process in list(n.processes.alive):
            process.die(signal=9)
        await n.clock.advance(10)
        assert len(n.processes.alive) == 1
        n.probe.answer = Health.OK
        await n.clock.advance(10)
        assert n.loaded == {"a", "b", "c"}


async def test_a_rule_that_is_taken_away_lets_all_load():
    async with node(ONE, prepare=slow) as n:
        assert n.statuses["b"] == "starting"
        n.store.memory_rules = None
        await n.clock.advance(2)
        assert len(n.processes.ports) == 3
