"""Decisions about room on their way to the servers that they are about."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, assert_never

from supervisor_app.core import lifecycle
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.placement.decisions import Decision, Evict, Plan, Refuse, Start, Wait
from supervisor_app.core.placement.reasons import Kind, sentence
from supervisor_app.core.placement.world import Cause
from supervisor_app.core.room.tenants import asks
from supervisor_app.core.room.told import Drained, Told
from supervisor_app.core.room.waiting import FRESH_SECONDS, Waiting
from supervisor_app.core.status import FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from supervisor_app.core.placement.reasons import Reason
    from supervisor_app.core.placement.world import Demand
    from supervisor_app.core.ports import Clock
    from supervisor_app.core.room.tenants import Tenant

GATE_SECONDS = 0.05
"""Time for gateways to say that they send a server nothing more, before it is asked whether it has requests.

A request that came between that question and SIGTERM would meet the server's end. Those that say so at once
are not waited for any longer; those that say nothing, or cannot, have all this time to learn of it.
"""
RETELL_SECONDS = 1.0
"""Pause between two reasons of one server that waits: while many load, who loads changes all the time, and
each reason is saved and pushed.
"""
NEXT_REQUEST = "The next request loads it."
ROOM_OR_REQUEST = "It is loaded once there is room, or by the next request."
NOT_LOADED_KINDS = frozenset({Kind.MEMORY, Kind.NODE_LIMIT, Kind.GROUP_LIMIT})
"""Reasons that do not pass by themselves."""


class Orders:
    """Tells servers what was decided, and remembers it in `told` until they have acted on it."""

    def __init__(
        self, *, clock: Clock, tenants: Callable[[], Mapping[str, Tenant]], waiting: Waiting
    ) -> None:
        self.told = Told()
        self._clock = clock
        self._tenants = tenants
        self._waiting = waiting
        self._hears_since = clock.monotonic()
        self._retold_at: dict[str, float] = {}
        """Moment at which a server that waits was told its last reason."""
        self._beside: dict[str, frozenset[str]] = {}
        """Server that was not loaded -> names of those that had its room when it was told why."""

    def carry_out(self, planned: Plan, demands: Sequence[Demand]) -> None:
        wanted, tenants = {demand.name: demand for demand in demands}, self._tenants()
        self._retold_at = {name: at for name, at in self._retold_at.items() if name in wanted}
        for decision in planned.decisions:
            self._perform(decision, wanted, tenants[decision.name])

    def _perform(self, decision: Decision, demands: Mapping[str, Demand], tenant: Tenant) -> None:
        attempt = tenant.state.attempt
        match decision:
            case Start():
                self._give(decision.name, tenant, sentence(decision.remark) if decision.remark else "")
            case Evict():
                self.told.draining[decision.name] = Drained(attempt, decision.for_, self._clock.monotonic())
                why = f"It finishes what it does, and makes room for `{decision.for_}` then."
                tenant.tell(lifecycle.Drain(attempt, why))
            case Wait():
                if demands[decision.name].cause is Cause.PRELOAD and decision.reason.kind in NOT_LOADED_KINDS:
                    self._leave(decision.name, tenant, decision.reason)
                else:
                    self._tell_why(decision.name, tenant, sentence(decision.reason))
            case Refuse():
                failure = failure_of(FailureKind.DOES_NOT_FIT, sentence(decision.reason).rstrip("."))
                tenant.tell(lifecycle.RoomRefused(attempt, failure))
            case never:
                assert_never(never)

    def recall(self, planned: Plan, names: Collection[str]) -> None:
        """Have those of these begin that were not loaded, and for which there is room now.

        The others are told why not, if it is because of others than before: numbers change all the time.
        """
        tenants = self._tenants()
        self._beside = {name: beside for name, beside in self._beside.items() if name in names}
        for decision in planned.decisions:
            if decision.name not in names:
                continue
            tenant = tenants[decision.name]
            match decision:
                case Start():
                    self.call_back(tenant)
                case Wait() if decision.reason.kind in NOT_LOADED_KINDS:
                    if _holders(decision.reason) != self._beside.get(decision.name):
                        self._leave(decision.name, tenant, decision.reason)

    def call_back(self, tenant: Tenant) -> None:
        """Have a server begin that was not loaded."""
        tenant.tell(lifecycle.RoomBack(tenant.state.attempt))

    def _leave(self, name: str, tenant: Tenant, reason: Reason) -> None:
        """Have a server rest until there is room for it."""
        self._beside[name] = _holders(reason)
        why = f"Not loaded: {sentence(reason, lasting=True)} {ROOM_OR_REQUEST}"
        tenant.tell(lifecycle.NotLoaded(tenant.state.attempt, why))

    def _tell_why(self, name: str, tenant: Tenant, why: str) -> None:
        """Tell a server for what it waits: at once, and then what has changed since, every second at most."""
        now, told = self._clock.monotonic(), tenant.state.awaits
        if why == told or (told and now < self._retold_at.get(name, -inf) + RETELL_SECONDS):
            return
        self._retold_at[name] = now
        tenant.tell(lifecycle.RoomAwaited(tenant.state.attempt, why))

    def _unload(self, name: str, tenant: Tenant, for_: str) -> None:
        self.told.unload(name, tenant.state.attempt, for_)
        why = f"Not loaded: made room for `{for_}`. {NEXT_REQUEST}"
        tenant.tell(lifecycle.Unload(tenant.state.attempt, f"Room is made for `{for_}`.", why))

    def closed(self, gateway: str, server: str, version: int, in_flight: int) -> bool:
        """Take from a gateway that it sends a server nothing more, and how many requests it has there.

        `version`: of the snapshot of the server by which it knows. False: that one is about an earlier time.
        """
        tenant, drained = self._tenants().get(server), self.told.draining.get(server)
        since = None if tenant is None else tenant.closed_since
        if drained is None or since is None or version < since:
            return False
        drained.in_flight[gateway] = in_flight
        return True

    @property
    def gates(self) -> list[float]:
        """Moments from which on servers that are to end may be asked whether they have requests."""
        return [drained.at + GATE_SECONDS for drained in self.told.draining.values()]

    async def end_drained(self) -> bool:
        """Unload those that have finished what they did; have the others go on where nobody needs room.

        True if any was unloaded.
        """
        tenants, before = self._tenants(), len(self.told.unloaded)
        for name, drained in list(self.told.draining.items()):
            if not any(map(asks, tenants.values())):
                del self.told.draining[name]
                tenants[name].tell(lifecycle.Drain(drained.attempt, ""))
            elif not self._is_closed(drained):
                continue
            elif not await tenants[name].requests():
                del self.told.draining[name]
                self._unload(name, tenants[name], drained.for_)
        return len(self.told.unloaded) > before

    def _is_closed(self, drained: Drained) -> bool:
        """Does no gateway send anything more? Each is known once it could have told twice of itself."""
        now = self._clock.monotonic()
        if now >= self._hears_since + FRESH_SECONDS and drained.is_left_by(self._waiting.gateways(now)):
            return True
        return now >= drained.at + GATE_SECONDS

    def _give(self, name: str, tenant: Tenant, remark: str = "") -> None:
        self.told.given[name] = tenant.state.attempt
        made_room = self.told.made_room_for(name)
        tenant.tell(lifecycle.RoomGiven(tenant.state.attempt, remark, made_room))


def _holders(reason: Reason) -> frozenset[str]:
    return frozenset(holder.name for holder in reason.holders)
