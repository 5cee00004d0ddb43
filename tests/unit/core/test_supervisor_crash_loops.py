"""A supervisor on a fake machine: crash loops, and the way back to a good configuration."""

from __future__ import annotations

from dataclasses import replace

from supervisor_app.core.changes import Remembered
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.spec import RestartPolicy
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import make_config, make_spec, settle
from tests.unit.core.supervising import bench

# Crash loops, and the way back


async def test_five_deaths_of_the_same_kind_are_a_crash_loop():
    async with bench(make_config(restart=RestartPolicy(max_retries=9, stable_after_ms=1))) as b:
        for death in range(5):
            assert "Crash loop" not in b.status.detail
            b.processes.last.die(signal=9)
            await settle()
            assert ("Crash loop" in b.status.detail) is (death == 4)
            await b.clock.advance(10)
        assert b.status.status is Status.READY
        assert "Crash loop" not in b.status.detail


async def test_deaths_far_apart_or_of_other_kinds_are_no_loop():
    async with bench(make_config(restart=RestartPolicy(max_retries=9, stable_after_ms=1))) as b:
        for number in range(8):
            if number % 2:
                b.processes.last.die(signal=9)
            else:
                b.processes.last.lines = ["GGML_ASSERT(x) failed"]
                b.processes.last.die(signal=6)
            await settle()
            assert "Crash loop" not in b.status.detail
            await b.clock.advance(150)


def launching(model: str, **more):
    spec = make_spec(args=("-m", model))
    return replace(make_config(spec=spec, **more), launch={"model_path": model})


async def test_a_changed_config_that_does_not_get_ready_can_be_rolled_back():
    async with bench(launching("good")) as b:
        b.processes.last.die(signal=9)
        await settle()
        assert not b.status.can_roll_back, "nothing was changed"
        await b.clock.advance(3)
        b.processes.spawn_failure = failure_of(FailureKind.MODEL_MISSING, "bad")
        b.supervisor.apply(launching("bad"))
        await b.clock.advance(1)
        assert b.status.status is Status.ERROR
        assert b.status.can_roll_back
        b.processes.spawn_failure = None
        b.supervisor.apply(launching("good"))
        await b.clock.advance(1)
        assert b.status.status is Status.READY
        assert not b.status.can_roll_back


async def test_a_good_configuration_is_remembered_over_supervisors():
    async with bench(launching("bad"), Remembered(last_good={"model_path": "good"})) as b:
        b.processes.last.die(code=1)
        await settle()
        assert not b.status.can_roll_back, "it reached ready, so it is the good one now"
