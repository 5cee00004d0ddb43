"""Whatever the world: what must hold of every plan."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_app.core.placement.decisions import Evict, Refuse, Start, Wait
from supervisor_app.core.placement.plan import plan
from supervisor_app.core.placement.reasons import Kind, sentence
from supervisor_app.core.placement.world import Cause, Demand, Need, Policy, Resident, Source, Standing, World
from tests.unit.core.placement.worlds import BUSY, GPU, IDLE, LEAVING, LOADING, NOW, OTHER_GPU, budget, need

DEVICES = (GPU, OTHER_GPU)
needs = st.builds(
    need,
    st.dictionaries(st.sampled_from(DEVICES), st.integers(1, 14), min_size=1),
    st.sampled_from([Source.MEASURED, Source.MEASURED, Source.ESTIMATED]),
) | st.just(Need(devices={}, source=Source.UNKNOWN))
common = {
    "need": needs,
    "pinned": st.integers(0, 9).map(lambda number: number == 0),
    "group": st.sampled_from(["", "chat"]),
    "priority": st.integers(-2, 2),
}
policies = st.builds(
    Policy,
    max_wait_for_busy_seconds=st.sampled_from([0.0, 0.0, 20.0]),
    max_loaded=st.sampled_from([0, 0, 0, 3]),
    group_limits=st.sampled_from([{}, {"chat": 1}]),
    parallel_loads=st.integers(1, 2),
)


@st.composite
def residents(draw, name: str) -> Resident:
    standing = draw(st.sampled_from([IDLE, IDLE, IDLE, BUSY, LOADING, LEAVING]))
    ready = NOW - draw(st.integers(0, 100))
    used = min(NOW, ready + draw(st.integers(0, 100)))
    return Resident(
        name=name,
        standing=standing,
        ready_since=None if standing is LOADING else ready,
        last_used=used,
        load_seconds=draw(st.integers(1, 60)),
        requests=draw(st.integers(1, 3)) if standing is BUSY else 0,
        **{key: draw(each) for key, each in common.items()},
    )


@st.composite
def demands(draw, name: str) -> Demand:
    return Demand(
        name=name,
        cause=draw(st.sampled_from(Cause)),
        since=NOW - draw(st.integers(0, 60)),
        waiting=draw(st.integers(0, 3)),
        **{key: draw(each) for key, each in common.items()},
    )


@st.composite
def worlds(draw) -> tuple[World, list[Demand], Policy]:
    budgets = tuple(budget(24, device=device, strangers=draw(st.integers(0, 6))) for device in DEVICES)
    there = tuple(draw(residents(f"r{number}")) for number in range(draw(st.integers(0, 6))))
    wanted = [draw(demands(f"d{number}")) for number in range(draw(st.integers(0, 5)))]
    return World(budgets=budgets, residents=there), wanted, draw(policies)


def _free(world: World, *, of: tuple[Resident, ...]) -> Counter[str]:
    free = Counter({each.device: each.usable for each in world.budgets})
    for resident in of:
        free.subtract(resident.need.devices)
    return free


@settings(deadline=None)
@given(worlds())
def test_each_demand_has_one_answer_and_no_server_goes_twice(given_world):
    world, wanted, policy = given_world
    decisions = plan(world, wanted, policy, NOW).decisions
    answers = [each.name for each in decisions if not isinstance(each, Evict)]
    assert sorted(answers) == sorted(each.name for each in wanted)
    gone = [each.name for each in decisions if isinstance(each, Evict)]
    assert len(gone) == len(set(gone))


@settings(deadline=None)
@given(worlds())
def test_only_those_go_that_may(given_world):
    world, wanted, policy = given_world
    there, asking = {each.name: each for each in world.residents}, {each.name: each for each in wanted}
    for decision in plan(world, wanted, policy, NOW).decisions:
        if isinstance(decision, Evict):
            goes, cause = there[decision.name], asking[decision.for_]
            assert cause.cause is not Cause.PRELOAD
            assert not goes.pinned
            assert goes.standing in {Standing.IDLE, Standing.BUSY}
            assert NOW - goes.ready_since >= policy.min_resident_seconds
            if goes.standing is Standing.BUSY:
                assert cause.waiting
                assert NOW - cause.since >= policy.max_wait_for_busy_seconds > 0


@settings(deadline=None)
@given(worlds())
def test_a_server_that_starts_has_its_memory_now(given_world):
    world, wanted, policy = given_world
    asking = {each.name: each for each in wanted}
    free = _free(world, of=world.residents)
    for decision in plan(world, wanted, policy, NOW).decisions:
        if isinstance(decision, Start):
            devices = asking[decision.name].need.devices
            trusted = decision.remark is None
            assert not trusted or all(amount <= free[device] for device, amount in devices.items())
            free.subtract(devices)


@settings(deadline=None)
@given(worlds())
def test_no_more_are_there_or_load_than_the_limits_say(given_world):
    world, wanted, policy = given_world
    asking = {each.name: each for each in wanted}
    started = [
        asking[each.name] for each in plan(world, wanted, policy, NOW).decisions if isinstance(each, Start)
    ]
    if not started:
        return
    servers = [*world.residents, *started]
    assert not policy.max_loaded or len(servers) <= policy.max_loaded
    for group in {each.group for each in started} & policy.group_limits.keys():
        assert sum(each.group == group for each in servers) <= policy.group_limits[group]
    loading = [*(each for each in world.residents if each.standing is LOADING), *started]
    for device in {each.need.main for each in started}:
        assert sum(each.need.main == device for each in loading) <= policy.parallel_loads
    if any(each.need.source is Source.UNKNOWN for each in loading):
        assert len(loading) == 1


@settings(deadline=None)
@given(worlds())
def test_refused_is_what_does_not_fit_beside_pinned_servers_and_strangers(given_world):
    world, wanted, policy = given_world
    pinned = tuple(each for each in world.residents if each.pinned and each.standing is not LEAVING)
    most = _free(world, of=pinned)
    refused = {each.name for each in plan(world, wanted, policy, NOW).decisions if isinstance(each, Refuse)}
    for demand in wanted:
        fits = all(amount <= max(0, most[device]) for device, amount in demand.need.devices.items())
        full = policy.max_loaded and len(pinned) >= policy.max_loaded
        limit = policy.group_limits.get(demand.group)
        full = full or (limit and sum(each.group == demand.group for each in pinned) >= limit)
        if fits:
            assert (demand.name in refused) == bool(full)
        elif demand.need.source is Source.MEASURED:
            assert demand.name in refused


@settings(deadline=None)
@given(worlds())
def test_somebody_gets_on_if_anything_can_be_done(given_world):
    """The first in line is not left waiting where idle servers could make room for it."""
    world, wanted, policy = given_world
    for demand in wanted:
        (*evictions, answer) = plan(world, [demand], policy, NOW).decisions
        loads = any(each.standing is LOADING for each in world.residents)
        idle = tuple(
            each
            for each in world.residents
            if each.standing is IDLE
            and not each.pinned
            and NOW - each.ready_since >= max(policy.min_resident_seconds, each.load_seconds)
        )
        if demand.cause is Cause.PRELOAD or loads or not isinstance(answer, Wait) or evictions:
            continue
        rest = tuple(each for each in world.residents if each not in idle and each.standing is not LEAVING)
        left = _free(world, of=rest)
        limit = policy.group_limits.get(demand.group)
        waits_for_leaving = any(each.standing is LEAVING for each in world.residents)
        assert (
            waits_for_leaving
            or any(amount > left[device] for device, amount in demand.need.devices.items())
            or (policy.max_loaded and len(rest) >= policy.max_loaded)
            or (limit and sum(each.group == demand.group for each in rest) >= limit)
        )


@settings(deadline=None)
@given(worlds())
def test_before_the_moment_that_it_names_time_changes_nothing_for_one_alone(given_world):
    world, wanted, policy = given_world
    for demand in wanted:
        first = plan(world, [demand], policy, NOW)
        moment = first.again_at
        assert moment is None or moment > NOW
        between = NOW + 3600 if moment is None else NOW + (moment - NOW) * 0.99
        again = plan(world, [demand], policy, between)
        assert [type(each) for each in again.decisions if not isinstance(each, Evict)] == [
            type(each) for each in first.decisions if not isinstance(each, Evict)
        ]
        assert any(isinstance(each, Evict) for each in first.decisions) == any(
            isinstance(each, Evict) for each in again.decisions
        )


@settings(deadline=None)
@given(worlds(), st.randoms())
def test_the_order_in_which_the_world_is_told_changes_nothing(given_world, chance):
    world, wanted, policy = given_world
    first = plan(world, wanted, policy, NOW)
    shuffled = list(world.residents)
    chance.shuffle(shuffled)
    asked = list(wanted)
    chance.shuffle(asked)
    again = plan(World(budgets=world.budgets, residents=tuple(shuffled)), asked, policy, NOW)
    assert again == first


@settings(deadline=None)
@given(worlds())
def test_each_reason_has_a_sentence(given_world):
    world, wanted, policy = given_world
    for decision in plan(world, wanted, policy, NOW).decisions:
        if isinstance(decision, Wait | Refuse):
            subject = "Waits for its turn" if decision.reason.kind is Kind.LOADS else f"`{decision.name}`"
            assert subject in sentence(decision.reason)
