"""Conversations that are kept over a planned end: real llama-servers, the real disk."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import requests

from supervisor_app.core import conversations
from supervisor_app.core.changes import ContextCounted
from supervisor_app.core.context.saved import SavedContext
from supervisor_app.core.machine import slot_files
from supervisor_app.core.machine.clock import SystemClock
from supervisor_app.core.machine.contexts import LocalContexts
from supervisor_app.core.machine.probe import HttpProbe
from supervisor_app.core.machine.processes import LocalProcesses
from supervisor_app.core.node import NodeSupervisor
from supervisor_app.core.spec import LaunchSpec, RestartPolicy
from supervisor_app.core.status import Status
from supervisor_app.core.testing import FakeFootprints, InMemoryStore, RecordingPublisher, make_config
from supervisor_app.engine.demo_model import make_demo_model
from tests.deadline import DEADLINE
from tests.integration.building import eventually
from tests.integration.engine.running import command_of
from tests.ports import free_port

pytestmark = pytest.mark.engine

FIRST = "alpha beta gamma delta " * 40
SECOND = "one two three four five " * 40
SEPARATE = ("-np", "2", "-c", "4096")
"""Two slots with a context each: llama-server keeps the idle ones where they are."""


class Supervised:
    """A node with one real server whose conversations are kept in a folder."""

    def __init__(self, engine, folder) -> None:
        self.folder = folder / "slots" / "default"
        self.command = tuple(command_of(engine))
        self.model = folder / "demo.gguf"
        self.port = free_port()
        self.cached: list[int] = []
        self.publisher = RecordingPublisher()
        self.probe = HttpProbe()
        self.generation = 1
        self.store = InMemoryStore(servers=[self.config(*SEPARATE)])
        self.contexts = LocalContexts(self.folder.parent, answers=self._answers)
        self.node = NodeSupervisor(
            store=self.store,
            publisher=self.publisher,
            processes=LocalProcesses(log_dir=folder / "logs"),
            probe=self.probe,
            clock=SystemClock(),
            footprints=FakeFootprints(),
            contexts=self.contexts,
        )

    def config(self, *flags, restart=0, **changes):
        where = ("-m", str(self.model), "--host", "127.0.0.1", "--port", str(self.port), "-t", "1")
        spec = LaunchSpec(
            host="127.0.0.1",
            port=self.port,
            command=self.command,
            args=(*where, *flags, "--slot-save-path", str(self.folder)),
            model_path=str(self.model),
            slot_dir=str(self.folder),
        )
        made = make_config(
            spec=spec,
            restart=RestartPolicy(max_retries=0, stop_grace_ms=5000),
            generation=self.generation,
            restart_generation=restart,
        )
        return replace(made, **changes)

    async def _answers(self, server, since, count):
        return self.cached[:count]

    @property
    def snapshot(self):
        return self.publisher.snapshots[-1]

    @property
    def counts(self):
        counted = [event for change in self.store.changes for event in change.run_events]
        return [dict(event.counts) for event in counted if isinstance(event, ContextCounted)]

    async def until_ready(self, but_not=None) -> None:
        seen = self.publisher.snapshots
        ready = lambda: seen and seen[-1].status is Status.READY and seen[-1].pid != but_not  # noqa: E731
        await eventually(ready, DEADLINE)

    async def restart(self, *flags, **changes) -> None:
        """By a wish; with other flags, as people change them."""
        before = self.snapshot.pid
        self.generation += 1
        self.store.servers = [self.config(*(flags or SEPARATE), restart=self.generation, **changes)]
        self.node.nudge()
        await self.until_ready(but_not=before)

    async def say(self, words) -> int:
        """Ask for an answer. Return the tokens of the prompt that were not computed again."""
        body = {"messages": [{"role": "user", "content": words}], "max_tokens": 4, "temperature": 0}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        answer = await asyncio.to_thread(requests.post, url, json=body, timeout=DEADLINE)
        answer.raise_for_status()
        found = answer.json()["timings"]["cache_n"]
        self.cached.append(found)
        return found

    def files(self):
        return sorted(file.name for file in self.folder.iterdir()) if self.folder.exists() else []


@asynccontextmanager
async def running(engine, folder):
    made = Supervised(engine, folder)
    make_demo_model(made.model)
    task = asyncio.create_task(made.node.run())
    try:
        await made.until_ready()
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.node.shutdown()
        made.contexts.close()
        made.probe.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(conversations, "JUDGE_SECONDS", 0.05)


async def test_conversations_of_one_context_are_kept_if_idle_slots_keep_their_place(tmp_path):
    async with running("llama-server", tmp_path) as made:
        shared = ("-c", "4096", "--no-cache-idle-slots")
        await made.restart(*shared)
        await made.say(FIRST)
        await made.say(SECOND)
        await made.restart(*shared)
        assert await made.say(f"{FIRST} and more") > 100
        assert await made.say(f"{SECOND} and more") > 100


@pytest.mark.parametrize("engine", ["llama-server", "bundled"])
async def test_conversations_go_on_after_a_restart_and_the_status_says_so(engine, tmp_path):
    async with running(engine, tmp_path) as made:
        await made.say(FIRST)
        await made.say(SECOND)
        await made.restart()
        assert "Restored 2 of 2 conversations, " in made.snapshot.detail
        assert not made.files()
        made.cached.clear()
        assert await made.say(f"{FIRST} and more") > 100
        assert await made.say(f"{SECOND} and more") > 100
        await eventually(lambda: "That was of use" in made.snapshot.detail, DEADLINE)
    assert made.counts[:2] == [{"saved": 2}, {"restored": 2}]
    assert {"used": 1} in made.counts


async def test_a_restore_that_did_nothing_is_counted_and_said(tmp_path):
    async with running("llama-server", tmp_path) as made:
        await made.say(FIRST)
        await made.restart()
        made.cached.clear()
        await made.say("something else")
        await eventually(lambda: "a restore that did nothing" in made.snapshot.detail, DEADLINE)
    assert {"unused": 1} in made.counts


async def test_other_flags_restore_nothing_and_the_status_says_so(tmp_path):
    async with running("llama-server", tmp_path) as made:
        await made.say(FIRST)
        await made.restart(*SEPARATE, "-b", "256")
        assert made.snapshot.detail.endswith("Its conversations are not restored: the flags are others.")
        assert not made.files()
        assert await made.say(FIRST) == 0
    assert made.counts[1] == {"lost": 1}


async def test_another_file_under_the_same_name_restores_nothing(tmp_path):
    async with running("llama-server", tmp_path) as made:
        await made.say(FIRST)
        copy = tmp_path / "copy.gguf"
        copy.write_bytes(made.model.read_bytes())
        copy.replace(made.model)
        await made.restart()
        assert await made.say(FIRST) == 0
    assert made.counts == [{"lost": 1}, {"saved": 1}]


async def test_a_file_that_was_changed_while_nothing_ran_restores_nothing(tmp_path):
    async with running("llama-server", tmp_path) as made:
        await made.say(FIRST)
    os.utime(made.model)
    async with running("llama-server", tmp_path) as made:
        assert made.snapshot.detail.endswith("the model's file is another one.")
        assert await made.say(FIRST) == 0


async def test_saved_conversations_are_for_their_user_alone(tmp_path):
    async with running("llama-server", tmp_path) as made:
        await made.say(FIRST)
    assert made.files() == ["saved.json", "slot-0.bin"]
    modes = [stat.S_IMODE((made.folder / name).stat().st_mode) for name in made.files()]
    assert modes == [0o600, 0o600]
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700


async def test_the_end_of_the_supervisor_saves_and_the_next_one_restores(tmp_path):
    async with running("llama-server", tmp_path) as made:
        await made.say(FIRST)
    async with running("llama-server", tmp_path) as made:
        assert "Its conversations are not restored: the flags are others" not in made.snapshot.detail
        assert "Restored 1 of 1 conversation" in made.snapshot.detail
        assert await made.say(f"{FIRST} and more") > 100


async def test_a_folder_that_cannot_be_written_is_one_sentence_and_the_end_goes_on(tmp_path, monkeypatch):
    async with running("llama-server", tmp_path) as made:
        await made.say(FIRST)
        monkeypatch.setattr(slot_files, "has_room", lambda folder: False)
        await made.restart()
        assert not made.files()
        assert await made.say(FIRST) == 0
    assert made.counts[0] == {"lost": 1}


async def test_a_folder_that_cannot_be_made_is_a_warning_and_the_server_runs(tmp_path):
    (tmp_path / "slots").write_text("in the way")
    async with running("llama-server", tmp_path) as made:
        (warning,) = [each for each in made.snapshot.warnings if "keep_context" in each]
        assert "File exists" in warning or "Not a directory" in warning
        await made.say(FIRST)
        before = made.snapshot.pid
        await made.restart()
        assert made.snapshot.pid != before


async def test_a_file_that_was_cut_short_is_not_restored(tmp_path):
    async with running("llama-server", tmp_path) as made:
        await made.say(FIRST)
    file = made.folder / "slot-0.bin"
    file.write_bytes(file.read_bytes()[:-1])
    async with running("llama-server", tmp_path) as made:
        assert "slot-0.bin is not as it was saved" in made.snapshot.detail
        assert await made.say(FIRST) == 0


async def test_conversations_that_a_kill_left_without_a_list_are_deleted_not_restored(tmp_path):
    async with running("llama-server", tmp_path) as made:
        await made.say(FIRST)
    (made.folder / "saved.json").rename(made.folder / "saved.json.new")
    async with running("llama-server", tmp_path) as made:
        assert not made.files()
        assert await made.say(FIRST) == 0


async def test_a_server_that_is_killed_saves_nothing(tmp_path):
    async with running("llama-server", tmp_path) as made:
        await made.say(FIRST)
        made.store.servers = [replace(made.config(*SEPARATE), restart=RestartPolicy(retry_backoff_ms=1))]
        made.node.nudge()
        await asyncio.sleep(0)
        before = made.snapshot.pid
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: made.snapshot.pid not in (before, None), DEADLINE)
        await made.until_ready(but_not=before)
        assert not made.files()
    assert {"saved": 1} not in made.counts[:1]


async def test_switched_off_what_was_saved_is_deleted(tmp_path):
    async with running("llama-server", tmp_path) as made:
        await made.say(FIRST)
    assert made.files()
    async with running("llama-server", tmp_path) as made:
        made.store.servers = [replace(made.config(*SEPARATE), context_refusal="A key isolates its prompts.")]
        made.folder.mkdir(exist_ok=True)
        (made.folder / "slot-0.bin").write_text("words")
        made.node.nudge()
        await eventually(lambda: not made.folder.exists(), DEADLINE)
        await eventually(lambda: "A key isolates its prompts." in made.snapshot.warnings, DEADLINE)
    assert not made.folder.exists()


def test_a_list_is_read_as_it_was_written(tmp_path):
    saved = SavedContext.parse(
        '{"format": 1, "basis": {"model": "m", "flags": "f", "build": "b",'
        ' "changed_at": 4.0, "boot": "1"}, "saved_at": 5.0,'
        ' "slots": [{"id": 0, "file": "slot-0.bin", "tokens": 40, "bytes": 9}]}'
    )
    slot_files.write_list(tmp_path, saved)
    assert slot_files.take_list(tmp_path) == saved
    assert slot_files.take_list(tmp_path) is None
