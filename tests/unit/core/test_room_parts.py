"""Budgets, memory on its way back, and requests that wait: what decisions about room are made of."""

from __future__ import annotations

import pytest

from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.memory_rules import MemoryRules
from supervisor_app.core.placement.world import Budget, Need, Source, Standing
from supervisor_app.core.room.budgets import budgets_of, unknown_devices
from supervisor_app.core.room.returning import GRACE_SECONDS, Returning
from supervisor_app.core.room.tenants import at_least, remnant
from supervisor_app.core.room.waiting import FRESH_SECONDS, Waiting

GB, MB = 2**30, 2**20
GPU = Device(id="GPU-5f", name="GPU 0: NVIDIA RTX 4090", total=24 * GB, free=9 * GB, ours=12 * GB)
HOST = Device(id="host", name="Host memory", total=64 * GB, free=40 * GB, ours=4 * GB)


def resident(gigabytes, device="GPU-5f"):
    return remnant("a", {device: gigabytes * GB})


def budget(rules, *residents, device=GPU):
    (found,) = budgets_of(Survey((device,)), rules, residents)
    return found


# --- Budgets -------------------------------------------------------------------------------------------


def test_servers_may_share_what_the_reserve_and_strangers_leave():
    rules = MemoryRules(reserve_mb=1024)
    assert budget(rules, resident(12)) == Budget(
        device="GPU-5f", name="GPU 0", total=24 * GB, reserve=GB, strangers=3 * GB
    )


def test_the_host_has_a_name_that_fits_into_a_sentence():
    assert budget(MemoryRules(), device=HOST).name == "the host"


def test_memory_our_servers_use_beyond_their_known_need_is_nobody_s_to_give():
    assert budget(MemoryRules(), resident(10)).strangers == 5 * GB
    assert budget(MemoryRules(), resident(14)).strangers == 3 * GB


@pytest.mark.parametrize("name", ["GPU-5f", "GPU 0", "GPU 0: NVIDIA RTX 4090"])
def test_a_budget_is_found_by_each_name_of_its_device(name):
    allowed = budget(MemoryRules(budget_mb={name: 2048}), resident(12))
    assert allowed.usable == 2 * GB


def test_a_budget_beyond_what_there_is_allows_no_more_than_that():
    rules = MemoryRules(reserve_mb=1024, budget_mb={"GPU 0": 10**6})
    assert budget(rules, resident(12)).usable == 20 * GB


def test_a_budget_for_the_host_counts_also_where_the_host_cannot_be_seen():
    found = budgets_of(Survey(), MemoryRules(budget_mb={"host": 100}), ())
    assert [(each.name, each.usable) for each in found] == [("the host", 100 * MB)]
    assert budgets_of(Survey(), MemoryRules(), ()) == ()


def test_a_device_that_is_not_there_is_named():
    rules = {"host": 1, "GPU 0": 1, "GPU 1": 1}
    assert list(unknown_devices(rules, Survey((GPU,)))) == ["GPU 1"]


# --- Needs ---------------------------------------------------------------------------------------------


def test_a_server_needs_no_less_than_it_is_seen_to_use():
    need = Need(devices={"host": 5, "GPU-5f": 9}, source=Source.MEASURED)
    assert at_least(need, {"GPU-5f": 9}) is need
    assert at_least(need, {"GPU-5f": 10, "GPU-6": 1}).devices == {"host": 5, "GPU-5f": 10, "GPU-6": 1}


# --- Memory on its way back ----------------------------------------------------------------------------


def gpu(free, ours=0):
    return Survey((Device(id="g", name="GPU 0", total=24 * GB, free=free * GB, ours=ours * GB),))


def strangers(survey):
    return survey.devices[0].strangers


def test_memory_of_a_process_that_has_gone_is_not_taken_for_that_of_strangers():
    returning = Returning()
    returning.look(gpu(free=9, ours=12), 0)
    returning.left("a", {"g": 12 * GB}, 1)
    seen, kept = returning.look(gpu(free=9), 1)
    assert kept == {"a": {"g": 12 * GB}}
    assert strangers(seen) == 3 * GB
    assert returning.is_awaited
    assert remnant("a", kept["a"]).standing is Standing.LEAVING
    seen, kept = returning.look(gpu(free=15), 2)
    assert kept == {"a": {"g": 6 * GB}}
    seen, kept = returning.look(gpu(free=21), 3)
    assert (kept, strangers(seen), returning.is_awaited) == ({}, 3 * GB, False)


def test_memory_that_does_not_come_back_is_a_strangers_after_a_while():
    returning = Returning()
    returning.look(gpu(free=9, ours=12), 0)
    returning.left("a", {"g": 12 * GB}, 1)
    seen, kept = returning.look(gpu(free=9), 1 + GRACE_SECONDS)
    assert (kept, strangers(seen)) == ({}, 15 * GB)


def test_a_stranger_that_grows_meanwhile_is_one():
    returning = Returning()
    returning.look(gpu(free=9, ours=12), 0)
    returning.left("a", {"g": 2 * GB}, 1)
    seen, kept = returning.look(gpu(free=9), 1)
    assert kept == {"a": {"g": 2 * GB}}
    assert strangers(seen) == 13 * GB


def test_two_that_leave_together_share_what_is_missing():
    returning = Returning()
    returning.look(gpu(free=4, ours=20), 0)
    returning.left("a", {"g": 12 * GB}, 1)
    returning.left("b", {"g": 8 * GB}, 1)
    _, kept = returning.look(gpu(free=10), 1)
    assert kept == {"a": {"g": 12 * GB}, "b": {"g": 2 * GB}}


def test_a_server_that_had_nothing_on_a_device_leaves_nothing_there():
    returning = Returning()
    returning.look(gpu(free=9, ours=12), 0)
    returning.left("a", {"host": 12 * GB}, 1)
    returning.left("b", {"g": 12 * GB}, 1)
    _, kept = returning.look(gpu(free=9), 1)
    assert kept == {"b": {"g": 12 * GB}}


def test_the_host_s_memory_is_back_once_the_process_has_gone():
    returning = Returning()
    returning.look(Survey((HOST,)), 0)
    returning.left("a", {"host": 4 * GB}, 1)
    _, kept = returning.look(Survey((Device(id="host", name="", total=64 * GB, free=40 * GB),)), 1)
    assert kept == {}


# --- Requests that wait --------------------------------------------------------------------------------


def test_requests_that_wait_in_several_gateways_are_added_up_while_heard_of():
    waiting = Waiting()
    waiting.tell("one", {"a": 2, "b": 1}, 0)
    waiting.tell("two", {"a": 3}, 4)
    assert (waiting.for_server("a", 4), waiting.for_server("b", 4), waiting.for_server("c", 4)) == (5, 1, 0)
    waiting.tell("two", {}, 5)
    assert waiting.for_server("a", 5 + FRESH_SECONDS) == 0


def test_gateways_are_known_while_they_are_heard_of():
    waiting = Waiting()
    waiting.tell("one", {}, 0)
    waiting.tell("two", {"a": 3}, 4)
    assert waiting.gateways(4) == {"one", "two"}
    assert waiting.gateways(FRESH_SECONDS) == {"two"}
    waiting.tell("three", {}, 4 + FRESH_SECONDS)
    assert waiting.gateways(4) == {"three"}, "those that are silent are forgotten"
