"""Plans of a node's memory: which server starts, goes, waits or is refused."""

from __future__ import annotations

import pytest

from supervisor_app.core.placement.world import Cause, Remedy
from tests.unit.core.placement.worlds import (
    BUSY,
    GIB,
    GPU,
    LEAVING,
    LOADING,
    NOW,
    OTHER_GPU,
    budget,
    decided,
    demand,
    later,
    need,
    planned,
    preload,
    resident,
    said_of,
)

TWO_GPUS = (budget(24), budget(24, device=OTHER_GPU))


# --- What fits -----------------------------------------------------------------------------------------


def test_a_server_that_fits_starts():
    assert decided(demand("a", 10)) == ["start a"]


def test_a_server_that_fits_beside_others_leaves_them_alone():
    assert decided(resident("x", 10), demand("a", 14)) == ["start a"]


def test_each_device_has_to_have_room():
    both = {GPU: 10.0, OTHER_GPU: 20.0}
    assert decided(demand("a", both), budgets=TWO_GPUS) == ["start a"]
    assert decided(resident("x", {OTHER_GPU: 5.0}), demand("a", both), budgets=TWO_GPUS) == [
        "evict x for a",
        "wait a",
    ]


def test_reserve_and_strangers_are_not_to_be_had():
    assert decided(demand("a", 20), budgets=(budget(24, reserve=2, strangers=1),)) == ["start a"]
    assert decided(demand("a", 22), budgets=(budget(24, reserve=2, strangers=1),)) == ["refuse a"]


def test_a_device_that_could_not_be_read_limits_nothing():
    assert decided(demand("a", {OTHER_GPU: 100.0})) == ["start a"]


def test_memory_of_a_server_that_leaves_is_not_free_until_it_is_back():
    assert decided(resident("x", 20, LEAVING), demand("a", 10)) == ["wait a"]
    assert decided(demand("a", 10)) == ["start a"]


def test_two_do_not_start_into_the_same_memory():
    assert decided(demand("a", 14), later(demand("b", 14), 0.5), parallel_loads=2) == ["start a", "wait b"]


# --- Who goes ------------------------------------------------------------------------------------------


def test_an_idle_server_makes_room():
    assert decided(resident("x", 20), demand("a", 10)) == ["evict x for a", "wait a"]


@pytest.mark.parametrize(
    "stays",
    [
        resident("x", 20, BUSY, requests=2),
        resident("x", 20, LOADING),
        resident("x", 20, ready_since=NOW - 5),
        resident("x", 20, last_used=NOW - 0.5, ready_since=NOW - 20, load_seconds=60),
    ],
    ids=["busy", "loading", "just loaded", "between two requests of a batch"],
)
def test_a_server_in_use_is_waited_for(stays):
    assert decided(stays, demand("a", 10)) == ["wait a"]


def test_a_pinned_one_stays_however_idle():
    assert decided(resident("x", 10, pinned=True), resident("y", 10), demand("a", 10)) == [
        "evict y for a",
        "wait a",
    ]


def test_a_pinned_one_is_no_obstacle_once_it_leaves():
    assert decided(resident("x", 20, LEAVING, pinned=True), demand("a", 20)) == ["wait a"]


def test_nobody_goes_as_long_as_all_that_may_go_is_not_enough():
    assert decided(resident("x", 10), resident("y", 12, BUSY, requests=1), demand("a", 20)) == ["wait a"]


def test_a_batch_that_goes_on_ends_with_the_turn():
    """The turn lasts as long as the load took."""
    batch = {"last_used": NOW - 0.1, "load_seconds": 60.0}
    assert decided(resident("x", 20, ready_since=NOW - 59, **batch), demand("a", 10)) == ["wait a"]
    assert decided(resident("x", 20, ready_since=NOW - 60, **batch), demand("a", 10)) == [
        "evict x for a",
        "wait a",
    ]


def test_when_somebody_may_go_by_time_alone_the_plan_says_when():
    just_loaded = resident("x", 20, ready_since=NOW - 4, last_used=NOW - 4)
    assert planned(just_loaded, demand("a", 10)).again_at == NOW + 6
    assert decided(just_loaded, demand("a", 10), now=NOW + 6) == ["evict x for a", "wait a"]


def test_nothing_is_said_of_time_when_time_changes_nothing():
    assert planned(resident("x", 20, BUSY, requests=1), demand("a", 10)).again_at is None


# --- Busy ones -----------------------------------------------------------------------------------------


def test_a_busy_one_is_told_to_finish_after_the_wait_that_people_allow():
    busy = resident("x", 20, BUSY, requests=1)
    waits = demand("a", 10, since=NOW - 30)
    assert decided(busy, waits) == ["wait a"]
    assert decided(busy, waits, max_wait_for_busy_seconds=31) == ["wait a"]
    assert planned(busy, waits, max_wait_for_busy_seconds=31).again_at == NOW + 1
    assert decided(busy, waits, max_wait_for_busy_seconds=30) == ["evict x for a", "wait a"]


@pytest.mark.parametrize(
    "stays",
    [
        resident("x", 20, BUSY, requests=1, pinned=True),
        resident("x", 20, LOADING),
        resident("x", 20, BUSY, requests=1, ready_since=NOW - 5),
        resident("x", 20, BUSY, requests=1, ready_since=NOW - 50, load_seconds=60),
    ],
    ids=["pinned", "loading", "just loaded", "in its turn"],
)
def test_however_long_somebody_waits_these_stay(stays):
    waits = demand("a", 4.5, since=NOW - 500)
    assert decided(stays, resident("y", 4, pinned=True), waits, max_wait_for_busy_seconds=30)[0] in {
        "wait a",
        "refuse a",
    }


def test_a_wish_without_requests_does_not_interrupt_anybody():
    wish = demand("a", 10, Cause.WISH, since=NOW - 500)
    assert decided(resident("x", 20, BUSY, requests=1), wish, max_wait_for_busy_seconds=30) == ["wait a"]


def test_an_idle_one_goes_before_a_busy_one():
    waits = demand("a", 4, since=NOW - 500)
    idle = resident("x", 12, load_seconds=600, last_used=NOW - 2)
    busy = resident("y", 12, BUSY, requests=1)
    assert decided(busy, idle, waits, max_wait_for_busy_seconds=30)[0] == "evict x for a"


# --- Limits --------------------------------------------------------------------------------------------


def test_no_more_are_loaded_than_the_node_may_have():
    assert decided(resident("x", 1), demand("a", 1), max_loaded=2) == ["start a"]
    assert decided(resident("x", 1), resident("y", 1, BUSY, requests=1), demand("a", 1), max_loaded=2) == [
        "evict x for a",
        "wait a",
    ]


def test_a_group_of_one_is_exclusive():
    servers = (resident("x", 1, group="chat"), resident("y", 1), demand("a", 1, group="chat"))
    assert decided(*servers, group_limits={"chat": 1}) == ["evict x for a", "wait a"]
    assert decided(*servers, group_limits={"chat": 2}) == ["start a"]
    assert decided(*servers, group_limits={"other": 1}) == ["start a"]


def test_a_limit_that_is_taken_up_by_pinned_servers_is_told_at_once():
    assert said_of("a", resident("x", 1, pinned=True), demand("a", 1), max_loaded=1) == (
        "`a` has no place: 1 server may be loaded at a time (`max_loaded`); there is `x` (pinned)."
    )
    assert decided(resident("x", 1, pinned=True), demand("a", 1), max_loaded=1) == ["refuse a"]


# --- Loads ---------------------------------------------------------------------------------------------


def test_loads_are_staggered_by_priority():
    first, second = demand("a", 2, priority=1), demand("b", 2, priority=5)
    assert decided(first, second) == ["start b", "wait a"]
    assert said_of("a", first, second) == "Waits for its turn to load: `b` loads now."
    assert decided(first, second, parallel_loads=2) == ["start b", "start a"]


def test_only_those_next_in_line_name_the_loads_before_them():
    """The sentence of all others stays the same with each load that ends."""
    servers = [demand(name, 1) for name in "abcd"]
    named = "Waits for its turn to load: `a` loads now."
    others = "Waits for its turn to load: 1 server loads at a time, and others come first."
    assert [said_of(name, *servers) for name in "bcd"] == [named, others, others]


def test_each_device_has_its_own_loads():
    on_other = {OTHER_GPU: 5.0, GPU: 1.0}
    assert decided(resident("x", 5, LOADING), demand("a", on_other), budgets=TWO_GPUS) == ["start a"]


def test_nobody_is_evicted_while_the_successor_cannot_load_yet():
    assert decided(resident("x", 20), resident("y", 4, LOADING), demand("a", 10)) == ["wait a"]


def test_a_wait_for_memory_that_comes_back_holds_up_no_load_that_could_begin():
    leaving, waits = resident("x", 14, LEAVING), demand("a", 14, since=NOW - 9)
    assert decided(leaving, waits, demand("b", 10)) == ["wait a", "start b"]


def test_each_load_evicts_one_server_at_a_time():
    """Else both would be gone, while only one of the two that come may load."""
    residents = (resident("x", 12), resident("y", 12))
    assert decided(*residents, demand("a", 10), later(demand("b", 10), 0.5)) == [
        "evict x for a",
        "wait a",
        "wait b",
    ]


# --- Order ---------------------------------------------------------------------------------------------


def test_the_server_that_waits_longest_comes_first():
    assert decided(demand("a", 20), demand("b", 20, since=NOW - 9)) == ["start b", "wait a"]


def test_a_higher_priority_overtakes_until_patience_ends():
    high = demand("b", 20, priority=9)
    assert decided(demand("a", 20, since=NOW - 29), high) == ["start b", "wait a"]
    assert decided(demand("a", 20, since=NOW - 30), high) == ["start a", "wait b"]
    assert planned(demand("a", 20, since=NOW - 29), high).again_at == NOW + 1


def test_a_smaller_one_does_not_take_what_is_promised():
    leaving, big, small = resident("x", 18, LEAVING), demand("a", 22, since=NOW - 9), demand("b", 4)
    assert decided(leaving, big, small) == ["wait a", "wait b"]
    assert said_of("b", leaving, big, small) == (
        "`b` needs 4.0 GiB on the gpu0. Free are 6.0 GiB; `x` holds 18.0 GiB (leaving), `a` 22.0 GiB (comes first)."
    )


def test_a_smaller_one_starts_beside_what_is_promised():
    assert decided(resident("x", 18, LEAVING), demand("a", 20, since=NOW - 9), demand("b", 4)) == [
        "wait a",
        "start b",
    ]


def test_a_wait_for_a_busy_server_keeps_nobody_from_free_memory():
    """A request may take hours."""
    assert decided(resident("x", 18, BUSY, requests=1), demand("a", 22, since=NOW - 9), demand("b", 4)) == [
        "wait a",
        "start b",
    ]


def test_nobody_goes_twice():
    """What one demand has evicted, another one cannot count on."""
    residents = (resident("x", 12), resident("y", 12, BUSY, requests=1))
    assert decided(*residents, demand("a", 12, since=NOW - 9), demand("b", 12), parallel_loads=2) == [
        "evict x for a",
        "wait a",
        "wait b",
    ]


# --- Preloads ------------------------------------------------------------------------------------------


def test_preloads_go_in_by_priority_until_nothing_fits():
    servers = (preload("a", 10), preload("b", 10, priority=2), preload("c", 10, priority=1))
    assert decided(*servers, parallel_loads=3) == ["start b", "start c", "wait a"]


def test_a_small_preload_fits_where_a_large_one_does_not():
    servers = (resident("x", 10), preload("a", 20, priority=2), preload("b", 2))
    assert decided(*servers) == ["wait a", "start b"]


def test_a_preload_evicts_nobody():
    assert decided(resident("x", 20), preload("a", 10)) == ["wait a"]
    assert planned(resident("x", 20), preload("a", 10)).again_at is None


def test_demand_comes_before_every_preload():
    assert decided(preload("a", 20, priority=99, since=0), demand("b", 20)) == ["start b", "wait a"]


# --- Never ---------------------------------------------------------------------------------------------


def test_a_server_that_never_fits_is_refused_at_once():
    assert decided(resident("x", 4, BUSY, requests=1), demand("a", 25)) == ["refuse a"]


def test_a_load_that_never_fits_beside_pinned_servers_is_refused():
    assert decided(resident("x", 4, pinned=True), demand("a", 21)) == ["refuse a"]
    assert decided(resident("x", 4, BUSY, requests=1), demand("a", 21)) == ["wait a"]


def test_a_refusal_evicts_nobody_and_holds_nobody_up():
    assert decided(resident("x", 20), demand("a", 25, since=NOW - 9), demand("b", 4)) == [
        "refuse a",
        "start b",
    ]


def test_a_refusal_names_the_mildest_flags_with_which_it_would_fit():
    remedies = tuple(
        Remedy(flags=flags, devices={GPU: int(gib * GIB)})
        for flags, gib in (("-c 32768", 21.5), ("-c 16384", 20.9), ("-c 8192", 20.1))
    )
    big = demand("big", need(22.4, remedies=remedies))
    embed, coder = resident("embed", 1.2, pinned=True), resident("coder", 12.8, BUSY, requests=2)
    assert said_of("big", coder, embed, big, budgets=(budget(23.1, strangers=1),)) == (
        "`big` needs 22.4 GiB on the gpu0. Free are 8.1 GiB, other programs use 1.0 GiB; "
        "`embed` holds 1.2 GiB (pinned), `coder` 12.8 GiB (busy, 2 requests). "
        "With `-c 16384` it would fit (20.9 GiB)."
    )


# --- Its own last process ------------------------------------------------------------------------------


def test_an_evicted_server_that_is_wanted_again_waits_for_its_own_end():
    servers = (resident("x", 14, LEAVING), demand("x", 14))
    assert decided(*servers) == ["wait x"]
    assert said_of("x", *servers) == "`x` starts once its last process has ended and its memory is back."


def test_the_room_of_a_server_that_starts_again_is_kept_for_it():
    x, late = (resident("x", 14, LEAVING), demand("x", 14)), later(demand("b", 14), 0.5)
    assert decided(*x, late) == ["wait x", "wait b"]
    assert decided(*x, later(demand("b", 10), 0.5)) == ["wait x", "start b"]


def test_a_server_that_is_there_already_is_not_started_twice():
    assert decided(resident("x", 14, LOADING), demand("x", 14)) == ["wait x"]
