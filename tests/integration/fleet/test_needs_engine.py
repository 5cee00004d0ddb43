"""Needs of a real llama-server: told by its log, measured while it works, kept in the database."""

from __future__ import annotations

import asyncio
import shutil

import pytest
import requests

from supervisor_app.core import chores
from supervisor_app.core.devices import HOST
from supervisor_app.core.machine.clock import SystemClock
from supervisor_app.core.machine.probe import HttpProbe
from supervisor_app.core.machine.processes import LocalProcesses
from supervisor_app.core.node import NodeSupervisor
from supervisor_app.core.placement.world import Source
from supervisor_app.core.spec import LaunchSpec, RestartPolicy
from supervisor_app.core.status import Status
from supervisor_app.core.testing import FakeContexts, InMemoryStore, RecordingPublisher, make_config
from supervisor_app.core.watch import peak, watchdog
from supervisor_app.fleet.models import Footprint, ServerState
from supervisor_app.fleet.needs import NodeFootprints
from tests import shapes
from tests.deadline import DEADLINE
from tests.integration.building import db, eventually, make_server, make_state
from tests.ports import free_port

ENGINE = shutil.which("llama-server") or ""
MIB = 2**20
PROCESS_MIB = 64
"""Beside what it tells, a process has its heap: the vocabulary, threads, buffers of HTTP. 12 MiB when idle."""

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not ENGINE, reason="measures llama-server itself: install llama.cpp"),
]


class Supervised:
    """A node with one real server, and its footprints in the database."""

    def __init__(self, model, logs, *flags, command=(ENGINE,)) -> None:
        self.port = free_port()
        args = ("-m", str(model), "--host", "127.0.0.1", "--port", str(self.port), "-t", "1", *flags)
        self.spec = LaunchSpec(
            host="127.0.0.1", port=self.port, command=command, args=args, model_path=str(model)
        )
        self.publisher = RecordingPublisher()
        self.footprints = NodeFootprints("here", devices=lambda: ())
        self._probe = HttpProbe()
        config = make_config("big", spec=self.spec, restart=RestartPolicy(max_retries=0, stop_grace_ms=500))
        self._node = NodeSupervisor(
            store=InMemoryStore(servers=[config]),
            publisher=self.publisher,
            processes=LocalProcesses(log_dir=logs),
            probe=self._probe,
            clock=SystemClock(),
            footprints=self.footprints,
            contexts=FakeContexts(),
        )
        self._task = asyncio.create_task(self._node.run())

    async def until(self, status) -> None:
        seen = self.publisher.snapshots
        await eventually(lambda: self._task.done() or (seen and seen[-1].status is status), DEADLINE)
        assert not self._task.done(), self._task.exception()

    async def work(self) -> None:
        """Have it compute whole batches: what it reserves for them is touched then."""
        body = {"prompt": list(range(300, 1800)), "n_predict": 4, "cache_prompt": False}
        url = f"http://127.0.0.1:{self.port}/completion"
        answer = await asyncio.to_thread(requests.post, url, json=body, timeout=DEADLINE)
        answer.raise_for_status()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._node.shutdown()
        self.footprints.close()
        self._probe.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return shapes.dense(folder / "wide.gguf", embd=512, heads=8, kv=8, ff=4096, vocabulary=32000)


@pytest.fixture
def _impatient(monkeypatch):
    """Learn within a second instead of within a minute."""
    monkeypatch.setattr(peak, "LEAST_SECONDS", 0.3)
    monkeypatch.setattr(peak, "PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(chores, "SURVEY_SECONDS", 0.2)
    monkeypatch.setattr(watchdog, "IDLE_INTERVAL", 0.2)
    monkeypatch.setattr(watchdog, "BUSY_INTERVAL", 0.2)


@pytest.fixture
async def supervise(transactional_db, _impatient, model, tmp_path):
    """Supervise the model with these flags, until the test is over."""
    await db(lambda: make_state(make_server("big", node="here", model_path=str(model))))
    built = []

    def begin(*flags, **more):
        built.append(Supervised(model, tmp_path / "logs", *flags, **more))
        return built[0]

    yield begin
    await built[0].close()


async def test_a_need_is_estimated_then_told_by_the_log_then_measured_and_all_agree(supervise):
    supervised = supervise("-lv", "4")
    before = await supervised.footprints.need("big", supervised.spec)
    assert (before.source, before.build[:1]) == (Source.ESTIMATED, "b")

    await supervised.until(Status.READY)
    told = await supervised.footprints.need("big", supervised.spec)
    assert told.source is Source.TOLD
    assert told.devices[HOST] == pytest.approx(before.devices[HOST], rel=0.03)

    measured = told
    while measured.source is not Source.MEASURED or measured.devices[HOST] < told.devices[HOST]:
        await supervised.work()
        measured = await supervised.footprints.need("big", supervised.spec)
    print(*(f"{each.source}: {each.devices[HOST] / MIB:.1f} MiB" for each in (before, told, measured)))
    assert told.devices[HOST] <= measured.devices[HOST] <= told.devices[HOST] + PROCESS_MIB * MIB
    assert measured.runs == 1
    state = await db(lambda: ServerState.objects.select_related("footprint").get())
    row = await db(lambda: Footprint.objects.get())
    assert state.footprint == row
    assert (row.model, row.build, row.runs) == ("wide.gguf", before.build, 1)


async def test_a_real_death_for_want_of_memory_raises_what_it_is_taken_to_need(supervise):
    limited = ("/bin/sh", "-c", 'ulimit -v 4000000; exec "$0" "$@"', ENGINE)
    supervised = supervise("-c", "1000000000", command=limited)
    before = await supervised.footprints.need("big", supervised.spec)
    await supervised.until(Status.ERROR)
    after = await supervised.footprints.need("big", supervised.spec)
    assert after.source is Source.ESTIMATED
    assert after.devices[HOST] == pytest.approx(1.2 * before.devices[HOST], rel=1e-6)
