"""One token from an idle server: real processes, scripted and real."""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import requests

from supervisor_app.core.changes import RunClosed, RunOpened
from supervisor_app.core.machine.clock import SystemClock
from supervisor_app.core.machine.probe import HttpProbe, send_canary
from supervisor_app.core.machine.processes import LocalProcesses
from supervisor_app.core.node import NodeSupervisor
from supervisor_app.core.sightings import Canary
from supervisor_app.core.spec import HealthPolicy, LaunchSpec, RestartPolicy
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import (
    FakeContexts,
    FakeFootprints,
    InMemoryStore,
    RecordingPublisher,
    make_config,
)
from supervisor_app.engine.demo_model import make_demo_model
from tests.deadline import DEADLINE
from tests.integration.building import eventually
from tests.ports import free_port

FAKE = Path(__file__).parents[2] / "fake_llama_server.py"
SOON = 0.001
"""Minutes."""


class Supervised:
    """Real processes and a real probe; what is saved and told is kept in memory."""

    def __init__(self, command, args, log_dir, health) -> None:
        port = free_port()
        where = ("--host", "127.0.0.1", "--port", str(port))
        self.spec = LaunchSpec(host="127.0.0.1", port=port, command=command, args=(*args, *where))
        restart = RestartPolicy(max_retries=0, stop_grace_ms=500)
        self.store = InMemoryStore(servers=[make_config(spec=self.spec, restart=restart, health=health)])
        self.publisher = RecordingPublisher()
        self.probe = HttpProbe()
        self.supervisor = NodeSupervisor(
            store=self.store,
            publisher=self.publisher,
            processes=LocalProcesses(log_dir=log_dir),
            probe=self.probe,
            clock=SystemClock(),
            footprints=FakeFootprints(),
            contexts=FakeContexts(),
        )

    @property
    def run_events(self):
        return [event for change in self.store.changes for event in change.run_events]

    async def until(self, status) -> None:
        seen = self.publisher.snapshots
        await eventually(lambda: seen and seen[-1].status is status, DEADLINE)


@asynccontextmanager
async def supervised(command, *args, log_dir, **health):
    made = Supervised(command, args, log_dir, HealthPolicy(**health))
    task = asyncio.create_task(made.supervisor.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.supervisor.shutdown()
        made.probe.close()


async def test_a_server_that_answers_all_but_completions_is_hung(tmp_path):
    command = (sys.executable, "-I", str(FAKE))
    wanted = {"canary_minutes": SOON, "stall_seconds": 1, "log_dir": tmp_path}
    async with supervised(command, "--fake-hang-completions", **wanted) as made:
        await made.until(Status.ERROR)
    (closed,) = [event for event in made.run_events if isinstance(event, RunClosed)]
    assert closed.failure.kind is FailureKind.HUNG
    assert closed.failure.detail == "/health says ok, but it gave no token within 1 s, twice"


# --- The real one --------------------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path):
    """Starts the real llama-server on a directory with a tiny model."""
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    engine = shutil.which("llama-server")
    if not engine:
        pytest.skip("install llama.cpp (https://github.com/ggml-org/llama.cpp)")
    (tmp_path / "models").mkdir()
    model = make_demo_model(tmp_path / "models" / "demo.gguf")

    def start(*args):
        which = args if "--models-dir" in args else ("-m", str(model), "-c", "512", "-t", "1", *args)
        return supervised((engine,), *which, log_dir=tmp_path / "logs")

    return start


async def canary_of(made) -> Canary:
    await made.until(Status.READY)
    return await asyncio.to_thread(send_canary, made.spec, DEADLINE)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("args", "canary"),
    [
        ([], Canary.FINE),
        # Asked for text, this one crashes.
        (["--embeddings", "--pooling", "none"], Canary.UNSUPPORTED),
        (["--reranking"], Canary.UNSUPPORTED),
    ],
)
async def test_a_real_server_answers_its_canary_and_lives_on(real, args, canary):
    async with real(*args) as made:
        assert await canary_of(made) is canary
        assert await canary_of(made) is canary
    assert len([event for event in made.run_events if isinstance(event, RunOpened)]) == 1


@pytest.mark.engine
async def test_a_real_router_is_asked_for_no_token(real, tmp_path):
    async with real("--models-dir", str(tmp_path / "models")) as made:
        assert await canary_of(made) is Canary.UNSUPPORTED


@pytest.mark.engine
async def test_a_real_server_that_sleeps_is_left_asleep(real):
    def asleep(url) -> bool:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"{url}/props", timeout=DEADLINE).json()["is_sleeping"] is True

    async with real("--sleep-idle-seconds", "1") as made:
        await made.until(Status.READY)
        async with asyncio.timeout(DEADLINE):
            while not await asyncio.to_thread(asleep, made.spec.url):
                await asyncio.sleep(0.05)
        assert await canary_of(made) is Canary.FINE
        assert await asyncio.to_thread(asleep, made.spec.url)
