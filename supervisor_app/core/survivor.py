"""The process that outlived the last supervisor: which it is, what it runs, what was begun with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.common.redact import redact_argv, secrets_of
from supervisor_app.core import lifecycle
from supervisor_app.core.shortage import CANNOT, why_not
from supervisor_app.core.status import UNDER_WAY, Stage, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.core.changes import Remembered
    from supervisor_app.core.ports import Processes
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.sightings import PortHolder
    from supervisor_app.core.spec import LaunchSpec
    from supervisor_app.core.status import Replacement
    from supervisor_app.core.surroundings import Surroundings


async def look_back(
    around: Surroundings, spec: LaunchSpec, remembered: Remembered, is_ending: Callable[[], bool]
) -> tuple[lifecycle.Resume | None, PortHolder | None] | None:
    """Find the process that lives on, as soon as we can look, and the one beside it.

    None when the supervisor is to end before that.
    """
    told, name, processes, clock = "", around.name, around.processes, around.clock
    while not is_ending():
        try:
            found = await find_survivor(processes, name, spec, remembered)
            return found, await find_beside(processes, name, spec, remembered, found)
        except CANNOT as error:
            why = why_not(error)
        if why != told:
            around.log.warning("⚠️ [LLAMA] %s: it cannot be seen whether it runs. Trying again.", why)
        told = why
        await clock.sleep_until(clock.monotonic() + lifecycle.AGAIN_SECONDS)
    return None


async def find_survivor(
    processes: Processes, name: str, spec: LaunchSpec, remembered: Remembered
) -> lifecycle.Resume | None:
    """Find the process that lives on: the one on record, or one that nobody had the time to write down.

    Raises ShortageError.
    """
    retries, deaths = remembered.retries, remembered.deaths
    if remembered.run_open and remembered.identity:
        holder = await processes.find(name, remembered.identity, spec)
        if holder:
            return lifecycle.Resume(
                holder,
                adopted=remembered.adopted,
                retries=retries,
                deaths=deaths,
                has_served=any(run.open and run.ready_at is not None for run in remembered.runs),
            )
    ours = await processes.find_ours(name)
    if ours is None:
        await processes.end_rest(name)
        return None
    return lifecycle.Resume(ours, adopted=False, retries=retries, recorded=False, deaths=deaths)


async def find_beside(
    processes: Processes,
    name: str,
    spec: LaunchSpec,
    remembered: Remembered,
    found: lifecycle.Resume | None,
) -> PortHolder | None:
    """Find the process that ran beside the one that was `found`, on record or not. Raises ShortageError."""
    left = remembered.replacement
    if found is None or left is None or left.stage not in UNDER_WAY:
        return None
    if left.identity is not None and left.identity != found.holder.identity:
        holder = await processes.find(name, left.identity, spec)
        if holder is not None:
            return holder
    return await processes.find_ours(name, but=found.holder.identity)


def port_of(found: lifecycle.Resume, remembered: Remembered, port: int | None) -> int | None:
    """Return the port of the process that was found: where it was the other one, that of the other one."""
    left = remembered.replacement
    return left.port if left is not None and left.port and not found.recorded else port


def stage_of(left: Replacement, holder: PortHolder, spec: LaunchSpec) -> Stage:
    """Return what becomes of a process beside the server's own, which is to run this spec now."""
    as_now = holder.argv[len(holder.argv) - len(spec.args) :] == spec.args
    return left.stage if as_now else Stage.LEAVING


def unfinished(
    found: lifecycle.Resume, remembered: Remembered, config: ServerConfig
) -> lifecycle.Stop | lifecycle.Restart | lifecycle.ConfigChanged | None:
    """Return what is still to be done with the process: a wish, or a change, that came in between.

    A process that is not on record was begun after all that is: the restart for which its predecessor was
    stopped has already happened.
    """
    if not config.desired_running:
        return lifecycle.Stop(at_once=config.at_once)
    if found.recorded and remembered.status is Status.STOPPING:
        return lifecycle.Restart(at_once=config.at_once)
    has_other_key = found.recorded and remembered.secrets not in ("", config.secrets)
    if not found.adopted and (has_other_key or argv_of(found, remembered, config.spec) != config.spec.argv):
        return lifecycle.ConfigChanged()
    return None


def argv_of(
    found: lifecycle.Resume | lifecycle.Adopt, remembered: Remembered, spec: LaunchSpec
) -> tuple[str, ...]:
    """Return the command line it was spawned with. A script may stand before it, but hands its flags on."""
    holder = found.holder
    if found.recorded:
        # The record holds no secret: those configured now must be among those of the process.
        as_remembered = redact_argv(spec.argv) == remembered.argv
        return spec.argv if as_remembered and _has_secrets(holder, spec) else remembered.argv
    as_now = holder.argv[len(holder.argv) - len(spec.args) :] == spec.args
    return spec.argv if as_now else holder.argv


def past_loads(remembered: Remembered, spec: LaunchSpec) -> list[float]:
    """Seconds that starts with this model took, newest first."""
    return [seconds for argv, seconds in remembered.loads if spec.model_path in argv]


def _has_secrets(holder: PortHolder, spec: LaunchSpec) -> bool:
    """Tell whether a process was started with the secrets among the flags that are configured now."""
    return set(secrets_of(spec.args)) <= set(secrets_of(holder.argv))
