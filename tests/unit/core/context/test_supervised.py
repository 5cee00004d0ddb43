"""A supervisor that keeps conversations, on a fake machine."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from supervisor_app.core.changes import ContextCounted
from supervisor_app.core.context.rules import VERIFY_SECONDS
from supervisor_app.core.context.saved import Kept
from supervisor_app.core.status import Status
from supervisor_app.core.testing import make_config, make_spec
from tests.unit.core.supervising import bench

FOLDER = "/data/slots/default"
ARGS = ("-m", "model.gguf", "--slot-save-path", FOLDER)
KEEPING = make_config(spec=replace(make_spec(args=ARGS), slot_dir=FOLDER))
KEPT = Kept(tokens=(900,), bytes=9)


def counts(built):
    return [dict(event.counts) for event in built.history if isinstance(event, ContextCounted)]


async def test_conversations_are_restored_before_ready_and_saved_before_the_end():
    def prepare(built):
        built.contexts.saved = built.contexts.restored = KEPT

    async with bench(KEEPING, prepare=prepare) as built:
        assert built.contexts.restores == ["default"]
        assert "Restored 1 of 1 conversation" in built.supervisor.snapshot.detail
        built.supervisor.stop("", spare_adopted=True)
        await built.clock.advance(1)
        assert built.supervisor.snapshot.status is Status.INITIAL
    assert built.contexts.saves == ["default"]
    assert counts(built) == [{"restored": 1}, {"saved": 1}]


async def test_an_engine_that_hangs_while_it_saves_ends_all_the_same():
    async with bench(KEEPING) as built:
        built.contexts.holding = asyncio.Event()
        built.supervisor.stop("", spare_adopted=True)
        await built.clock.advance(4)
        assert built.processes.last.signals == []
        await built.clock.advance(2)
        assert built.processes.last.signals == ["TERM"]


async def test_the_first_answers_are_looked_at_until_they_tell():
    async with bench(KEEPING, prepare=lambda built: setattr(built.contexts, "restored", KEPT)) as built:
        await built.clock.advance(10)
        assert "of use" not in built.supervisor.snapshot.detail
        built.contexts.cached = [899]
        await built.clock.advance(3)
        assert "That was of use: 899 tokens" in built.supervisor.snapshot.detail
    assert counts(built) == [{"restored": 1}, {"used": 1}]


async def test_nobody_looks_at_answers_for_ever():
    async with bench(KEEPING, prepare=lambda built: setattr(built.contexts, "restored", KEPT)) as built:
        await built.clock.advance(VERIFY_SECONDS + 5)
        built.contexts.cached = [899]
        await built.clock.advance(10)
    assert counts(built) == [{"restored": 1}]


async def test_a_server_without_the_setting_is_neither_restored_nor_saved():
    async with bench() as built:
        built.supervisor.stop("", spare_adopted=True)
        await built.clock.advance(1)
    assert (built.contexts.restores, built.contexts.saves) == ([], [])


async def test_without_its_folder_a_server_runs_without_the_flag_and_says_why():
    async with bench(KEEPING, prepare=lambda built: setattr(built.contexts, "trouble", "no space")) as built:
        snapshot = built.supervisor.snapshot
        assert snapshot.warnings == ("Its conversations are not kept (keep_context): no space.",)
        built.supervisor.stop("", spare_adopted=True)
        await built.clock.advance(1)
    assert built.contexts.saves == []


async def test_a_reason_that_comes_while_a_server_runs_is_shown_at_once():
    async with bench(KEEPING) as built:
        built.supervisor.apply(replace(KEEPING, context_refusal="A key isolates its prompts here."))
        assert built.supervisor.snapshot.warnings == ("A key isolates its prompts here.",)
        built.supervisor.stop("", spare_adopted=True)
        await built.clock.advance(1)
    assert built.contexts.saves == []


async def test_a_server_that_was_deleted_leaves_nothing():
    async with bench(KEEPING) as built:
        built.supervisor.leave("It was deleted.")
        await built.clock.advance(1)
    assert built.contexts.saves == []


def test_a_launch_without_slots_has_neither_flag_nor_folder():
    spec = KEEPING.spec.without_slots
    assert (spec.args, spec.slot_dir) == (("-m", "model.gguf"), "")
    assert make_spec().without_slots == make_spec()
