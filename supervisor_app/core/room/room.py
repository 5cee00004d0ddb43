"""The one place that gives servers room in memory and turns to load, and has others make room.

Level-triggered: who has memory and who asks for some is read from the servers' own states at each decision,
so nothing is to be withdrawn when a wish changes. A decision is an event for the server that it is about.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

from supervisor_app.core.memory_rules import MemoryRules, loads_at_once
from supervisor_app.core.placement.decisions import Refuse
from supervisor_app.core.placement.plan import plan
from supervisor_app.core.placement.world import Cause, Demand, Need, Standing, World
from supervisor_app.core.room.beside import as_idle, beside, demand_beside, why_not_beside
from supervisor_app.core.room.budgets import budgets_of, policy_of
from supervisor_app.core.room.orders import Orders
from supervisor_app.core.room.reading_ahead import ReadAhead, room_for_files
from supervisor_app.core.room.recalls import RECALL_SECONDS, recalled, rests, with_places_kept
from supervisor_app.core.room.sight import Sight
from supervisor_app.core.room.tenants import (
    UNKNOWN,
    Tenant,
    asks,
    at_least,
    demand,
    is_undecided,
    remnant,
    resident,
    standing_of,
)
from supervisor_app.core.room.unplanned import WEIGHTLESS, line_up, loading, may_be_crowded
from supervisor_app.core.room.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from supervisor_app.core.devices import Survey
    from supervisor_app.core.ports import Clock, Footprints
    from supervisor_app.core.room.reading_ahead import Read
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.spec import LaunchSpec

LOOK_AGAIN_SECONDS = 1.0
"""Between two looks at servers and memory while somebody waits for room."""
RETURNING_SECONDS = 0.1
"""The same while memory is on its way back."""
FAREWELL_SECONDS = 0.05
"""Time for a server that was told to end, in which most have: until then nothing new is free."""
SETTLE_SECONDS = 2.0
"""Time that servers nobody has asked for leave to others to ask, too: then priority decides."""
SURVEY_FRESH_SECONDS = 2.0
"""Age of a look at the machine that will do for a question."""


class Room:
    """Decides with each nudge, at moments that the planner names, and each second while somebody waits."""

    def __init__(
        self,
        *,
        clock: Clock,
        look: Callable[[Collection[int]], Awaitable[Survey]],
        read: Read,
        footprints: Footprints,
        tenants: Callable[[], Mapping[str, Tenant]],
        cpus: int,
    ) -> None:
        """`look` at the machine, whose servers have these pids; `read` files ahead of a load.

        `cpus`: those that we may use.
        """
        self._clock = clock
        self._sight = Sight(clock=clock, footprints=footprints, look=look, tenants=tenants)
        self._ahead = ReadAhead(read)
        self._tenants = tenants
        self._cpus = cpus
        self._rules: MemoryRules | None = None
        """None: no room is made."""
        self._parallel = loads_at_once(None, cpus)
        """Servers that may load at a time where no room is made."""
        self._servers = 0
        self._complete = False
        self._nudged = asyncio.Event()
        self._waiting = Waiting()
        self._orders = Orders(clock=clock, tenants=tenants, waiting=self._waiting)
        self._since: dict[tuple[str, int], float] = {}
        """Server and attempt -> when it was first seen to ask."""

    # For others

    @property
    def is_on(self) -> bool:
        """Is room made on this node at all?"""
        return self._rules is not None

    @property
    def in_turn(self) -> bool:
        """Do servers load in turn, as there are more than may load at a time?"""
        return self._rules is None and self._servers > self._parallel

    def govern(self, rules: MemoryRules | None, servers: Sequence[ServerConfig], *, complete: bool) -> None:
        """Take the rules. Without a table of them, room is made as soon as a server has a group.

        `complete`: every server has its supervisor.
        """
        if rules is None and any(server.claim.group for server in servers):
            rules = MemoryRules()
        self._parallel, self._servers = loads_at_once(rules, self._cpus), len(servers)
        if rules is not None and not rules.make_room:
            rules = None
        if (rules, complete) != (self._rules, self._complete):
            self._rules, self._complete = rules, complete
            self.nudge()

    def nudge(self) -> None:
        """Decide now: a server asks, has got ready, has ended."""
        self._nudged.set()

    def waits(self, gateway: str, counts: Mapping[str, int]) -> None:
        """Take from a gateway that it is there, and how many requests wait for each server."""
        self._waiting.tell(gateway, counts, self._clock.monotonic())
        if counts:
            self.nudge()
        if self.is_on and not self._sight.saw_all(counts):
            self._sight.looks.begin()  # the wish for one that is not here is on its way

    def closed(self, gateway: str, server: str, version: int, in_flight: int) -> None:
        """Take from a gateway that it sends a server nothing more, and how many requests it has there.

        `version`: of the snapshot of the server by which it knows. An older one is about an earlier time.
        """
        if self._orders.closed(gateway, server, version, in_flight):
            self.nudge()

    async def may_fit(self, name: str) -> bool:
        """Would a server that was refused be refused again?"""
        tenant = self._tenants().get(name)
        if tenant is None or self._rules is None:
            return True
        now = self._clock.monotonic()
        survey = await self._sight.survey(now - SURVEY_FRESH_SECONDS, self._rules)
        needs = await self._sight.read_needs({name: tenant, **self._with_memory()})
        asked = demand(tenant, needs[name], now, waiting=1)
        world, policy = self._world(survey, needs, {}, now), policy_of(self._rules)
        return not any(isinstance(said, Refuse) for said in plan(world, [asked], policy, now).decisions)

    async def fits_beside(self, name: str, spec: LaunchSpec) -> str:
        """Return why a second process of a server has no room beside the first; empty: it has."""
        tenants, now = self._tenants(), self._clock.monotonic()
        survey, _ = await asyncio.gather(
            self._sight.survey(now, self._rules), self._sight.read_needs(self._with_memory())
        )
        need = await self._sight.need(name, spec) or UNKNOWN
        first = tenants[name]
        asked = demand_beside(first, at_least(need, _used_by(survey, first)), now)
        world = as_idle(self._world(survey, self._sight.needs, {}, now), name)
        return why_not_beside(world, asked, policy_of(self._rules), now)

    async def run(self) -> None:
        """Decide until cancelled."""
        try:
            await self._decide_for_ever()
        finally:
            self._ahead.only({}, lambda: 0)
            self._sight.looks.close()

    async def _decide_for_ever(self) -> None:
        while True:
            self._nudged.clear()
            again_at = await self._decide()
            self._read_ahead()
            alarm = asyncio.create_task(self._clock.sleep_until(again_at)) if again_at < inf else None
            nudge = asyncio.create_task(self._nudged.wait())
            try:
                await asyncio.wait(filter(None, (nudge, alarm)), return_when=asyncio.FIRST_COMPLETED)
            finally:
                nudge.cancel()
                if alarm is not None:
                    alarm.cancel()

    def _read_ahead(self) -> None:
        """Read the files of those for which others make room, beside all that needs memory now."""
        tenants = self._tenants()
        wanted = {name: tenants[name].config.spec for name in self._orders.told.waited_for if name in tenants}
        residents = [self._sight.needs.get(name, UNKNOWN) for name in self._with_memory()]
        rules, survey = self._rules or MemoryRules(), self._sight.looks.seen
        self._ahead.only(wanted, lambda: room_for_files(survey, rules, residents))

    # A decision

    async def _decide(self) -> float:
        """Decide for all that ask; return when to look again."""
        self._orders.told.forget_acted_on(self._tenants())
        if await self._orders.end_drained():
            return self._clock.monotonic() + FAREWELL_SECONDS
        self._sight.note_departures(self._standing())
        tenants = self._tenants()
        asking = {
            name: tenant
            for name, tenant in tenants.items()
            if asks(tenant) and name not in self._orders.told.given
        }
        self._since = {
            (name, tenant.state.attempt): self._since.get(
                (name, tenant.state.attempt), self._clock.monotonic()
            )
            for name, tenant in asking.items()
        }
        resting = {name: tenant for name, tenant in tenants.items() if rests(tenant)}
        if not asking and not resting:
            return inf
        if self._rules is None:
            return self._line_up()
        survey, needs = await asyncio.gather(
            self._sight.survey(self._sight.since_when(), self._rules),
            self._sight.read_needs({**asking, **resting, **self._with_memory()}),
        )
        evicting = any(tenant.state.wished or self._waits_for(name) for name, tenant in asking.items())
        matter = evicting and self._requests_matter(survey, needs)
        requests = await self._ask_for_requests() if matter else {}
        return self._settle(survey, needs, requests)

    def _requests_matter(self, survey: Survey, needs: Mapping[str, Need]) -> bool:
        """Does any decision depend on how many requests servers have? One that computes answers late."""
        now, serving = self._clock.monotonic(), self._serving()
        demands, policy = self._demands(needs, now), policy_of(self._rules)
        worlds = (self._world(survey, needs, dict.fromkeys(serving, count), now) for count in (0, 1))
        idle, busy = (plan(world, demands, policy, now).decisions for world in worlds)
        return idle != busy

    def _line_up(self) -> float:
        """Have the next ones load; return when to look again."""
        now, tenants, given = self._clock.monotonic(), self._tenants(), self._orders.told.given
        crowded = not self._complete or may_be_crowded(tenants, given, self._parallel, now)
        demands = self._demands(dict.fromkeys(tenants, WEIGHTLESS), now, gathers=crowded)
        planned = line_up(loading(tenants, given, now), demands, self._parallel, now)
        self._orders.carry_out(planned, demands)
        for resting in filter(rests, tenants.values()):
            self._orders.call_back(resting)
        return now + LOOK_AGAIN_SECONDS

    def _settle(self, survey: Survey, needs: Mapping[str, Need], requests: Mapping[str, int]) -> float:
        """Plan and perform in one go: what was asked a moment ago is as fresh as it gets."""
        now = self._clock.monotonic()
        demands = self._demands(needs, now)
        world = self._world(survey, needs, requests, now)
        planned = plan(world, demands, policy_of(self._rules), now)
        self._orders.carry_out(planned, demands)
        self._recall(world, demands, needs, now)
        if not self._since:
            return now + RECALL_SECONDS
        soon = now + (RETURNING_SECONDS if self._sight.returning.is_awaited else LOOK_AGAIN_SECONDS)
        to_come = [gate for gate in self._orders.gates if gate > now]
        return min(soon, planned.again_at or inf, *to_come)

    def _recall(self, world: World, demands: Sequence[Demand], needs: Mapping[str, Need], now: float) -> None:
        """Have those begin that were not loaded for want of room, if there is some beside all others."""
        tenants, known = self._tenants(), {demand.name for demand in demands}
        resting = [asked for asked in recalled(tenants, needs, now) if asked.name not in known]
        if resting and not self._is_unsettled():
            beside = with_places_kept(world, tenants, needs)
            planned = plan(beside, [*demands, *resting], policy_of(self._rules), now)
            self._orders.recall(planned, {asked.name for asked in resting})

    def _demands(self, needs: Mapping[str, Need], now: float, *, gathers: bool = True) -> list[Demand]:
        """Return who asks. Those that nobody has asked for come in together, so that priority counts.

        `gathers`: False where there is enough for all, and no order.
        """
        tenants, unsettled = self._tenants(), self._is_unsettled()
        found = []
        for (name, attempt), since in self._since.items():
            tenant = tenants.get(name)
            if tenant is None or not asks(tenant) or tenant.state.attempt != attempt:
                continue
            asked = demand(tenant, needs.get(name, UNKNOWN), since, self._waits_for(name))
            if gathers and asked.cause is Cause.PRELOAD and unsettled and now < since + SETTLE_SECONDS:
                continue
            found.append(asked)
        return found

    def _is_unsettled(self) -> bool:
        """May servers that nobody has heard yet ask in a moment, or turn out to have memory?"""
        here = {name for name, _ in self._since}
        return not self._complete or any(
            is_undecided(tenant)
            or (asks(tenant) and name not in here and name not in self._orders.told.given)
            for name, tenant in self._tenants().items()
        )

    def _waits_for(self, name: str) -> int:
        return self._waiting.for_server(name, self._clock.monotonic())

    def _world(
        self, survey: Survey, needs: Mapping[str, Need], requests: Mapping[str, int], now: float
    ) -> World:
        survey, returning = self._sight.returning.look(survey, now)
        residents = [
            resident(
                tenant,
                standing,
                at_least(needs.get(name, UNKNOWN), _used_by(survey, tenant)),
                requests.get(name, 0),
            )
            for name, (tenant, standing) in self._standing().items()
        ]
        residents += [
            beside(tenant, standing, needs.get(name, UNKNOWN))
            for name, tenant in self._tenants().items()
            if tenant.second is not None and (standing := standing_of(tenant.second)) is not None
        ]
        here = {each.name for each in residents}
        residents += [remnant(name, devices) for name, devices in returning.items() if name not in here]
        rules = self._rules or MemoryRules()
        return World(budgets=budgets_of(survey, rules, residents), residents=tuple(residents))

    # The world

    def _standing(self) -> dict[str, tuple[Tenant, Standing]]:
        """Return who has memory, or was given some just now, and how each stands."""
        found = {}
        for name, tenant in self._tenants().items():
            standing = standing_of(tenant.state)
            if name in self._orders.told.unloaded or name in self._orders.told.draining:
                standing = Standing.LEAVING
            elif name in self._orders.told.given:
                standing = Standing.LOADING
            if standing is not None:
                found[name] = tenant, standing
        return found

    def _with_memory(self) -> dict[str, Tenant]:
        return {name: tenant for name, (tenant, _) in self._standing().items()}

    async def _ask_for_requests(self) -> dict[str, int]:
        """Ask each server that may go how many requests it has."""
        serving = self._serving()
        found = await asyncio.gather(*(tenant.requests() for tenant in serving.values()))
        return dict(zip(serving, found, strict=True))

    def _serving(self) -> dict[str, Tenant]:
        """Return who serves and may go."""
        return {
            name: tenant
            for name, (tenant, standing) in self._standing().items()
            if standing is Standing.IDLE and not tenant.config.claim.pinned and tenant.second is None
        }


def _used_by(survey: Survey, tenant: Tenant) -> Mapping[str, int]:
    identity = tenant.state.identity
    return {} if identity is None else survey.used_by(identity.pid)
