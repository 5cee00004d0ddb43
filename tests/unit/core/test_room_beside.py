"""Room for a second process of a server, beside the first."""

from __future__ import annotations

from dataclasses import replace

from supervisor_app.core.status import Stage
from tests.unit.core.rooming import node

PORTS = (9001, 9101, 9102)


async def restarts(n, name="a", seconds=1.0):
    at = next(at for at, config in enumerate(n.store.servers) if config.name == name)
    old = n.store.servers[at]
    n.store.servers[at] = replace(
        old,
        generation=old.generation + 1,
        restart_generation=old.generation + 1,
        restart_seamless=True,
        spare_ports=PORTS,
    )
    n.supervisor.nudge()
    await n.clock.advance(seconds)


async def test_both_fit_and_one_takes_the_others_place():
    async with node(needs={"a": 40}) as n:
        await n.clock.advance(5)
        await restarts(n, seconds=10)
        assert n.processes.ports == [9001, 9101]
        assert n.snapshot("a").replacement is None


async def test_two_that_do_not_fit_are_refused_and_nobody_goes_for_them():
    async with node(needs={"a": 45, "b": 20}) as n:
        await n.clock.advance(5)
        await n.ask("b", 5)
        assert n.loaded == {"a", "b"}
        await restarts(n, seconds=5)
        said = n.snapshot("a").replacement
        assert said.stage is Stage.REFUSED
        assert "`a (new)` needs 45.0 MiB on the host." in said.detail
        assert "pinned" not in said.detail
        assert n.loaded == {"a", "b"}


async def test_no_other_server_gets_the_room_while_both_are_there():
    def without_b(n):
        n.store.servers[1] = replace(n.store.servers[1], desired_running=False)

    async with node(needs={"a": 40, "b": 40}, prepare=without_b) as n:
        assert n.loaded == {"a"}
        n.probe.busy.add(9001)
        await restarts(n)
        await n.ask("b", 5)
        assert n.snapshot("a").replacement.stage is Stage.LEAVING
        assert n.snapshot("b").status.value == "starting"
        assert {len(pids) for pids in n.processes.surveyed} >= {2}
        n.probe.busy.clear()
        await n.clock.advance(10)
        assert n.loaded == {"a", "b"}


async def test_a_need_that_nobody_can_tell_in_time_refuses_nothing():
    async with node(needs={"a": 40}) as n:
        await n.clock.advance(5)

        async def hangs(name, spec):
            raise TimeoutError

        n.footprints.need = hangs
        assert await n.supervisor.room.fits_beside("a", n.store.servers[0].spec) == ""
