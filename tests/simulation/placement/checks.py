"""Claims that must hold, whatever happens. Each returns what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core.placement.decisions import Evict, Refuse, Start, Wait
from supervisor_app.core.placement.world import Cause, Standing
from tests.simulation.placement.servers import RAISE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from supervisor_app.core.placement.decisions import Plan
    from supervisor_app.core.placement.world import Demand, Resident, World
    from tests.simulation.placement.node import Node


def of_plan(node: Node, world: World, demands: Sequence[Demand], plan: Plan) -> Iterator[str]:
    there = {each.name: each for each in world.residents}
    asking = {each.name: each for each in demands}
    for decision in plan.decisions:
        at = f"{node.timeline.now:.1f}: {decision}"
        match decision:
            case Evict(name, for_):
                yield from (f"{at}: {what}" for what in _harm(node, there[name], asking[for_]))
            case Refuse(name):
                yield from (f"{at}: {what}" for what in _needless_refusal(node, world, name))
    started = [asking[each.name] for each in plan.decisions if isinstance(each, Start)]
    if started:
        yield from _over_budget(node, world, plan, started)
    yield from _standstill(node, world, demands, plan)


def unanswered(node: Node) -> Iterator[str]:
    for server in node.servers.values():
        if server.queue or server.running:
            yield f"{server.name} ({server.state.name}) never answered {len(server.queue) + len(server.running)}"


def _harm(node: Node, goes: Resident, demand: Demand) -> Iterator[str]:
    now, policy, server = node.timeline.now, node.policy, node.servers[goes.name]
    if goes.pinned:
        yield "it is pinned"
    if goes.standing not in {Standing.IDLE, Standing.BUSY}:
        yield f"it is {goes.standing}"
        return
    if now < goes.ready_since + policy.min_resident_seconds:
        yield "it was just loaded"
    allowed = policy.max_wait_for_busy_seconds and demand.waiting
    allowed = allowed and now >= demand.since + policy.max_wait_for_busy_seconds
    if goes.standing is Standing.BUSY and not allowed:
        yield "it is busy"
    if demand.cause is Cause.PRELOAD:
        yield "for a preload"
    if server.loaded_for is Cause.REQUEST and not server.answered and not server.running:
        yield "it was loaded for requests, and has answered none"


def _over_budget(node: Node, world: World, plan: Plan, started: Sequence[Demand]) -> Iterator[str]:
    """By no more than needs are unknown or estimated too low."""
    doubted = {each.name for each in plan.decisions if isinstance(each, Start) and each.remark}
    for budget in world.budgets:
        sure = [each for each in started if each.name not in doubted]
        taken = sum(each.need.devices.get(budget.device, 0) for each in (*world.residents, *sure))
        if any(budget.device in each.need.devices for each in sure) and taken > budget.usable:
            yield f"{node.timeline.now:.1f}: {taken} bytes on {budget.device}, {budget.usable} may be taken"


def _standstill(node: Node, world: World, demands: Sequence[Demand], plan: Plan) -> Iterator[str]:
    """Somebody waits, and there is nothing that could end the wait."""
    waits = any(each.cause is not Cause.PRELOAD for each in demands)
    only_waits = all(isinstance(each, Wait) for each in plan.decisions)
    at_work = any(each.standing is not Standing.IDLE for each in world.residents)
    if waits and only_waits and not at_work and plan.again_at is None:
        yield f"{node.timeline.now:.1f}: all wait, and nothing happens: {plan.decisions}"


def _needless_refusal(node: Node, world: World, name: str) -> Iterator[str]:
    """It would fit beside pinned servers and strangers, with what it truly needs and a bit more."""
    pinned = [each for each in world.residents if each.pinned and each.standing is not Standing.LEAVING]
    server, policy = node.servers[name], node.policy
    limit = policy.group_limits.get(server.group)
    full = policy.max_loaded and len(pinned) >= policy.max_loaded
    full = full or (limit and sum(each.group == server.group for each in pinned) >= limit)
    most = {
        budget.device: budget.usable - sum(each.need.devices.get(budget.device, 0) for each in pinned)
        for budget in world.budgets
    }
    if not full and all(size * (1 + RAISE) <= most[device] for device, size in server.true.items()):
        yield f"it would fit: it needs {server.true} of {most}"
