"""Plans for servers whose need of memory is not sure."""

from __future__ import annotations

from supervisor_app.core.placement.reasons import Kind, sentence
from supervisor_app.core.placement.world import Source
from tests.unit.core.placement.worlds import (
    LOADING,
    NOW,
    OTHER_GPU,
    UNKNOWN,
    budget,
    decided,
    demand,
    need,
    planned,
    resident,
)

TWO_GPUS = (budget(24), budget(24, device=OTHER_GPU))


def test_an_estimate_that_may_be_too_high_is_tried_once_all_room_is_there():
    estimated = demand("a", need(26, Source.ESTIMATED))
    assert decided(estimated) == ["start a"]
    assert decided(resident("x", 2), estimated) == ["evict x for a", "wait a"]
    assert decided(demand("a", need(26))) == ["refuse a"]


def test_a_start_against_an_estimate_says_so():
    (start,) = planned(demand("a", need(26, Source.ESTIMATED))).decisions
    assert start.remark.kind is Kind.DOUBTED
    (start,) = planned(demand("a", need(24, Source.ESTIMATED))).decisions
    assert start.remark is None


def test_an_estimate_far_too_high_is_believed():
    assert decided(demand("a", need(29, Source.ESTIMATED))) == ["refuse a"]


def test_a_server_that_shrinks_by_itself_is_never_too_large():
    assert decided(demand("a", need(80, shrinks=True))) == ["start a"]
    assert decided(resident("x", 4), demand("a", need(80, shrinks=True))) == ["evict x for a", "wait a"]


def test_a_server_that_shrinks_starts_also_where_nothing_is_left():
    """Strangers have taken what a pinned server counts on: llama-server computes on the CPU then."""
    pinned, shrinks = resident("x", 20, pinned=True), demand("a", need(8, shrinks=True))
    assert decided(pinned, shrinks, budgets=(budget(24, strangers=10),)) == ["start a"]


def test_a_server_of_unknown_need_starts_if_nothing_loads():
    (start,) = planned(resident("x", 24), demand("a", UNKNOWN)).decisions
    assert start.remark.kind is Kind.UNKNOWN_NEED
    assert decided(resident("x", {OTHER_GPU: 4.0}, LOADING), demand("a", UNKNOWN)) == ["wait a"]


def test_nothing_else_loads_beside_a_server_of_unknown_need():
    assert decided(resident("x", UNKNOWN, LOADING), demand("a", 2), parallel_loads=4) == ["wait a"]


def test_a_server_of_unknown_need_gets_its_moment_among_many_loads():
    """Else others would go on to load, and it would wait for ever."""
    loading = resident("x", 4, LOADING)
    unknown, other = demand("a", UNKNOWN, since=NOW - 9), demand("b", {OTHER_GPU: 2.0})
    assert decided(loading, unknown, other, budgets=TWO_GPUS) == ["wait a", "wait b"]


def test_limits_hold_for_what_nobody_knows():
    assert decided(resident("x", 4), demand("a", UNKNOWN), max_loaded=1) == ["evict x for a", "wait a"]


def test_a_doubted_start_tells_what_pinned_servers_leave():
    pinned, estimated = resident("x", 10, pinned=True), demand("a", need(15, Source.ESTIMATED))
    (start,) = planned(pinned, estimated).decisions
    assert sentence(start.remark) == (
        "`a` needs about 15 GiB (estimated) on the gpu0. It can have 14.0 GiB. "
        "Estimates may be wrong: it is tried."
    )
