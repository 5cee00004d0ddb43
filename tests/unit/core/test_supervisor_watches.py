"""A running server under the eyes of its supervisor: warnings, a limit of memory, its port, its models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.sightings import Health, ProcessUsage, Slots
from supervisor_app.core.spec import HealthPolicy
from supervisor_app.core.status import FailureKind, Model, Status
from supervisor_app.core.testing import make_config, make_spec, settle, stranger
from tests.unit.core.supervising import WORKING, bench, closed, uses


async def test_a_log_that_was_removed_is_told_until_it_is_back(caplog):
    async with bench() as b:
        b.processes.last.trouble = "Its log file was removed."
        await b.clock.advance(20)
        assert b.status.warnings == ("Its log file was removed.",)
        assert caplog.text.count("Its log file was removed.") == 1
        b.processes.last.trouble = ""
        await b.clock.advance(10)
        assert b.status.warnings == ()


async def test_a_stranger_on_a_port_that_was_chosen_is_not_taken_over():
    config = replace(make_config(), spare_ports=(8134, 8135))
    async with bench(config, prepare=lambda b: setattr(b.processes, "holder", stranger(llama=True))) as b:
        assert b.processes.adopted == []
        assert b.status.failure.kind is FailureKind.PORT_TAKEN


async def test_memory_over_the_limit_restarts_a_server_once_it_is_idle():
    async with bench(make_config(health=HealthPolicy(max_memory_mb=4096))) as b:
        uses(b, 2)
        await b.clock.advance(6)
        uses(b, 5)
        b.probe.working = WORKING
        b.processes.last.used = ProcessUsage(connections=1)
        await b.clock.advance(6)
        assert len(b.processes.spawned) == 1
        assert "over its limit of 4.0 GiB" in b.status.warnings[0]
        b.probe.working = Slots(answered=True)
        await b.clock.advance(4)
        assert len(b.processes.spawned) == 2
        assert b.status.status is Status.READY
        assert b.status.runs[1].failure is None
        assert closed(b).note == "It used 5.0 GiB, over its limit of 4.0 GiB."
        assert b.status.retries == 0


async def test_a_gpu_that_is_not_used_although_asked_for_is_a_warning():
    spec = make_spec(args=("-m", "model.gguf", "-ngl", "99"))

    async with bench(
        make_config(spec=spec), prepare=lambda b: setattr(b.probe, "answer", Health.LOADING)
    ) as b:
        b.processes.last.lines = ["warning: no usable GPU found, --gpu-layers option will be ignored"]
        b.probe.answer = Health.OK
        await b.clock.advance(1)
        assert "computes on the CPU" in b.status.warnings[0]
        assert b.status.status is Status.READY


async def test_an_empty_list_of_models_is_a_warning():
    async with bench(prepare=lambda b: setattr(b.probe, "offered", ())) as b:
        assert b.status.warnings == ("Its list of models is empty.",)


@pytest.mark.parametrize(
    ("running", "warned"),
    [("model.gguf", False), ("/srv/model.gguf", False), ("", False), ("old.gguf", True)],
)
async def test_a_server_that_was_found_with_another_model_says_so(running, warned):
    def found(b):
        b.processes.holder = stranger(llama=True)
        b.probe.running = running

    async with bench(prepare=found) as b:
        assert (b.status.status, b.status.adopted) == (Status.READY, True)
        assert any("old.gguf" in warning for warning in b.status.warnings) is warned
    async with bench(prepare=lambda b: setattr(b.probe, "running", "old.gguf")) as b:
        assert b.status.warnings == (), "what we start runs what is configured"


async def test_an_address_that_cannot_be_seen_is_a_warning():
    def hide(b):
        b.probe.answer = Health.LOADING

    async with bench(prepare=hide) as b:
        b.processes.last.unseen = "It cannot be seen which process has the socket."
        b.probe.answer = Health.OK
        await b.clock.advance(1)
        assert b.status.warnings == ("It cannot be seen which process has the socket.",)
        assert b.status.endpoint.address == "127.0.0.1"
        assert "endpoint" not in b.status.as_json(0.0)


async def test_a_port_is_asked_only_once_its_listener_is_proved():
    async with bench() as b:
        asked = b.probe.checks
        b.processes.last.die(signal=9)
        await settle()
        assert b.status.endpoint is None

        async def nowhere(spec):
            return None

        while len(b.processes.spawned) < 2:
            await b.clock.advance(0.005)
        b.processes.last.endpoint = nowhere
        await b.clock.advance(5)
        assert b.probe.checks == asked


async def test_models_that_a_router_loads_and_unloads_are_told():
    unloaded = Model(id="one", name="one", status="unloaded")
    async with bench(prepare=lambda b: setattr(b.probe, "offered", (unloaded,))) as b:
        assert b.status.models == (unloaded,)
        version = b.status.version
        loaded = replace(unloaded, status="loaded")
        b.probe.offered = (loaded, replace(unloaded, id="new"))
        await b.clock.advance(10)
        assert [(model.id, model.status) for model in b.status.models] == [
            ("one", "loaded"),
            ("new", "unloaded"),
        ]
        assert b.status.version > version
        b.probe.models_error = "it did not answer"
        await b.clock.advance(10)
        assert (len(b.status.models), b.status.warnings) == (2, ())
