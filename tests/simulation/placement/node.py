"""A node that measures, asks the planner, and does what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from supervisor_app.core.placement.decisions import Evict, Plan, Refuse, Start, Wait
from supervisor_app.core.placement.world import Cause, Demand, Policy, World
from tests.simulation.placement import checks
from tests.simulation.placement.clients import Request, invite_clients
from tests.simulation.placement.machine import Machine
from tests.simulation.placement.servers import Server, State, servers_by
from tests.simulation.placement.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.chance import Chance

ARRIVALS_SECONDS = 600.0
END_SECONDS = 20_000.0
"""Whoever has not been answered by then waits for ever."""
PRELOAD_SECONDS = 60.0
"""What has not been preloaded by then comes with its first request."""


class Planner(Protocol):
    def __call__(self, world: World, demands: Sequence[Demand], policy: Policy, now: float) -> Plan: ...


@dataclass
class Report:
    """What a world came to."""

    problems: list[str] = field(default_factory=list)
    asked: int = 0
    answered: int = 0
    refused: int = 0
    waits: list[float] = field(default_factory=list)
    """Of each request that was sent to a server: seconds from its arrival."""
    evictions: int = 0
    loads: int = 0
    load_seconds: float = 0.0
    out_of_memory: int = 0


class Node:
    def __init__(self, chance: Chance, planner: Planner, policy: Policy) -> None:
        self.planner, self.policy = planner, policy
        self.chance = chance
        self.timeline = Timeline()
        self.machine = Machine.by(chance)
        self.servers = {server.name: server for server in servers_by(chance, self.machine)}
        self.report = Report()
        self._next_look = 0.0
        self.machine.invite_strangers(chance, self.timeline, ARRIVALS_SECONDS)
        invite_clients(chance, list(self.servers), self.timeline, ARRIVALS_SECONDS, self.ask)
        self._plan_accidents(chance)
        self.timeline.at(PRELOAD_SECONDS, self._give_up_preloads)

    def live(self) -> Report:
        self._look()
        while self.timeline.now < END_SECONDS and self.timeline.next():
            self._look()
        self.report.problems.extend(checks.unanswered(self))
        return self.report

    # --- Requests ---

    def ask(self, request: Request) -> None:
        request.arrived = self.timeline.now
        self.report.asked += 1
        server = self.servers[request.server]
        server.queue.append(request)
        self._serve(server)

    def _serve(self, server: Server) -> None:
        while server.state is State.READY and server.queue and len(server.running) < server.slots:
            request = server.queue.popleft()
            if request.begun is None:
                request.begun = self.timeline.now
                self.report.waits.append(self.timeline.now - request.arrived)
            request.attempt += 1
            server.running.append(request)
            self.timeline.after(request.seconds, self._end_of(server, request, request.attempt))

    def _end_of(self, server: Server, request: Request, attempt: int):
        def end() -> None:
            if request.attempt != attempt or request not in server.running:
                return  # Its server has crashed meanwhile.
            server.running.remove(request)
            server.answered += 1
            server.last_used = self.timeline.now
            self.report.answered += 1
            request.then()
            self._serve(server)
            if server.state is State.LEAVING and not server.running:
                self._end(server)

        return end

    # --- Planning ---

    def _look(self) -> None:
        demands = [demand for server in self.servers.values() if (demand := server.demand())]
        if not demands:
            return
        now = self.timeline.now
        world = World(
            budgets=self.machine.budgets(),
            residents=tuple(
                server.resident() for server in self.servers.values() if server.state is not State.GONE
            ),
        )
        plan = self.planner(world, demands, self.policy, now)
        self.report.problems.extend(checks.of_plan(self, world, demands, plan))
        for decision in plan.decisions:
            self._do(decision)
        if plan.again_at is not None and not now < self._next_look <= plan.again_at:
            self._next_look = plan.again_at
            self.timeline.at(plan.again_at, lambda: None)  # Each event is followed by a look.

    def _do(self, decision: Start | Evict | Wait | Refuse) -> None:
        server = self.servers[decision.name]
        match decision:
            case Start():
                server.had_all_of = decision.remark.device if decision.remark else ""
                self._start(server)
            case Evict():
                self.report.evictions += 1
                server.state, server.told_to_go = State.LEAVING, self.timeline.now
                if not server.running:
                    self._end(server)
            case Refuse():
                self._refuse(server)
            case Wait():
                pass

    def _refuse(self, server: Server) -> None:
        server.wanted = None
        refused = list(server.queue)
        server.queue.clear()
        self.report.refused += len(refused)
        for request in refused:
            request.then()

    # --- Lives of servers ---

    def _start(self, server: Server) -> None:
        server.loaded_for = Cause.REQUEST if server.queue else Cause.PRELOAD
        server.state, server.wanted, server.answered = State.LOADING, None, 0
        server.free_at_start = {name: device.free for name, device in self.machine.devices.items()}
        server.life += 1
        life = server.life
        self.report.loads += 1
        self.report.load_seconds += server.load_seconds
        self.timeline.after(server.load_seconds * 0.3, lambda: self._allocate(server, life))
        self.timeline.after(server.load_seconds, lambda: self._ready(server, life))

    def _allocate(self, server: Server, life: int) -> None:
        if server.life != life or server.state is not State.LOADING:
            return
        for name, size in server.true.items():
            device = self.machine.devices[name]
            if size > device.free:
                self.report.out_of_memory += 1
                server.learn_from_want_of(name, device.total, device.free)
                server.state = State.GONE
                return
        server.allocated = True
        for name, size in server.true.items():
            self.machine.devices[name].ours += size

    def _ready(self, server: Server, life: int) -> None:
        if server.life != life or server.state is not State.LOADING:
            return
        server.state = State.READY
        server.ready_since = server.last_used = self.timeline.now
        server.learn_from_a_run()
        self._serve(server)

    def _end(self, server: Server) -> None:
        self.timeline.after(server.stop_seconds + server.back_seconds, lambda: self._gone(server))

    def _gone(self, server: Server) -> None:
        if server.allocated:
            for name, size in server.true.items():
                self.machine.devices[name].ours -= size
        server.allocated, server.ready_since, server.state = False, None, State.GONE

    # --- Accidents ---

    def _plan_accidents(self, chance: Chance) -> None:
        for server in chance.sample(list(self.servers.values()), chance.randrange(5)):
            self.timeline.at(chance.random() * ARRIVALS_SECONDS, partial(self._crash, server))
        for server in chance.sample(list(self.servers.values()), chance.randrange(3)):
            self.timeline.at(chance.random() * ARRIVALS_SECONDS, partial(self._wish, server))

    def _crash(self, server: Server) -> None:
        """Its requests are sent again: they are the first in its queue."""
        if server.state not in {State.LOADING, State.READY}:
            return
        server.queue.extendleft(reversed(server.running))
        server.running.clear()
        server.life += 1
        server.state = State.LEAVING
        self.timeline.after(server.back_seconds, lambda: self._gone(server))
        if not server.queue:
            server.wanted, server.wanted_since = Cause.WISH, self.timeline.now

    def _wish(self, server: Server) -> None:
        if server.state in {State.GONE, State.LEAVING}:
            server.wanted, server.wanted_since = Cause.WISH, self.timeline.now

    def _give_up_preloads(self) -> None:
        for server in self.servers.values():
            if server.wanted is Cause.PRELOAD:
                server.wanted = None


def policy_by(chance: Chance) -> Policy:
    return Policy(
        min_resident_seconds=chance.choice([10.0, 10.0, 0.0]),
        max_wait_for_busy_seconds=chance.choice([0.0, 0.0, 30.0]),
        max_loaded=chance.choice([0, 0, 0, 3]),
        group_limits=chance.choice([{}, {"one": 1}, {"one": 1, "two": 2}]),
        parallel_loads=chance.choice([1, 1, 2]),
    )
