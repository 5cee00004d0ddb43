"""Obstacles and holders of memory, as a plan tells them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.placement.reasons import Kind, Stay
from tests.unit.core.placement.worlds import (
    BUSY,
    GIB,
    IDLE,
    LEAVING,
    LOADING,
    NOW,
    OTHER_GPU,
    budget,
    demand,
    preload,
    reason_of,
    resident,
    said_of,
)

TWO_GPUS = (budget(24), budget(24, device=OTHER_GPU))


# --- The obstacle that is told ---


def test_told_is_what_cannot_be_had_not_what_could_be():
    """Memory could be had of the idle one; the group is full of busy ones."""
    idle = resident("x", 20)
    busy = resident("y", {OTHER_GPU: 4.0}, BUSY, requests=1, group="chat")
    servers = (idle, busy, demand("a", 10, group="chat"))
    reason = reason_of("a", *servers, budgets=TWO_GPUS, group_limits={"chat": 1})
    assert reason.kind is Kind.GROUP_LIMIT
    assert [holder.name for holder in reason.holders] == ["y"]


def test_where_room_could_be_made_the_load_before_is_told():
    servers = (resident("x", 20), resident("y", 2, LOADING), demand("a", 10))
    assert said_of("a", *servers) == "Waits for its turn to load: `y` loads now."


def test_of_two_that_lack_memory_and_a_place_memory_is_told():
    servers = (resident("x", 20, BUSY, requests=1), demand("a", 10))
    assert reason_of("a", *servers, max_loaded=1).kind is Kind.MEMORY


def test_a_server_that_starts_by_the_same_plan_holds_its_room():
    first, second = preload("a", 20, priority=1), preload("b", 10)
    assert said_of("b", first, second) == (
        "`b` needs 10.0 GiB on the gpu0. Free are 4.0 GiB; `a` holds 20.0 GiB (loading)."
    )
    assert said_of("b", first, second, max_loaded=1, budgets=()).endswith("there is `a` (loading).")


@pytest.mark.parametrize(("needed", "told"), [(20, 3 * GIB), (21, 0)])
def test_the_reserve_is_told_where_without_it_a_server_would_fit(needed, told):
    kept = budget(24, reserve=3, strangers=4)
    assert reason_of("a", demand("a", needed), budgets=(kept,)).reserve == told


def test_a_budget_of_people_is_told_as_theirs():
    assert reason_of("a", demand("a", 30), budgets=(replace(budget(24), is_set=True),)).allowed == 24 * GIB
    assert reason_of("a", demand("a", 30)).allowed == 0


# --- Reasons to stay -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holder", "stay"),
    [
        (resident("x", 20, pinned=True), Stay.PINNED),
        (resident("x", 20, BUSY, requests=1), Stay.BUSY),
        (resident("x", 20, LOADING), Stay.LOADING),
        (resident("x", 20, LEAVING), Stay.LEAVING),
        (resident("x", 20, ready_since=NOW - 2, last_used=NOW - 2), Stay.JUST_LOADED),
        (resident("x", 20, ready_since=NOW - 20, last_used=NOW - 0.5, load_seconds=60), Stay.IN_USE),
        (resident("x", 20), Stay.LEAVING),
    ],
)
def test_each_holder_is_named_with_why_it_stays(holder, stay):
    (told,) = reason_of("a", holder, demand("a", 10)).holders
    assert (told.name, told.bytes, told.stay) == ("x", 20 * GIB, stay)


def test_an_idle_one_is_told_as_idle_where_nobody_may_evict_it():
    (told,) = reason_of("a", resident("x", 20, IDLE), preload("a", 10)).holders
    assert told.stay is Stay.IDLE
