"""The begin of a run: look who holds the port, spawn a process, or adopt one."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from supervisor_app.common.redact import redact_argv
from supervisor_app.core import lifecycle
from supervisor_app.core.context.rules import not_kept
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.ports import SpawnError
from supervisor_app.core.status import FailureKind
from supervisor_app.core.watched import WatchedProcess

if TYPE_CHECKING:
    from supervisor_app.core.spec import LaunchSpec
    from supervisor_app.core.surroundings import Surroundings
    from supervisor_app.core.watch.loading import LoadWatch

LONGEST_SHOWN = 500
"""Characters of a stranger's command line on the console."""

Launched = tuple[lifecycle.Event, WatchedProcess | None]
"""The event that the launch ends with, and the process; None: there is no process."""


async def inspect(around: Surroundings, attempt: int, spec: LaunchSpec) -> lifecycle.Inspected:
    """Look who listens on the port."""
    holder = await around.processes.port_holder(around.name, spec)
    if holder is not None and not holder.is_llama_server and holder.argv:
        argv = shlex.join(redact_argv(holder.argv))[:LONGEST_SHOWN]
        around.log.info("🔎 [LLAMA] %s runs %s", holder, argv)
    return lifecycle.Inspected(attempt, holder)


async def spawn(around: Surroundings, attempt: int, spec: LaunchSpec, load: LoadWatch) -> Launched:
    """Spawn a process of our own."""
    spec, refused = await _with_slots(around, spec)
    around.log.info("🚀 Spawning llama-server with args: %s", shlex.join(redact_argv(spec.args)))
    try:
        process = await around.processes.spawn(around.name, spec)
    except SpawnError as error:
        return lifecycle.SpawnFailed(attempt, error.failure), None
    watched = WatchedProcess(
        process,
        around,
        attempt=attempt,
        spec=spec,
        argv=spec.argv,
        adopted=False,
        taken_over=False,
        load=load,
        context_refusal=refused,
    )
    return lifecycle.Spawned(attempt, process.identity), watched


async def _with_slots(around: Surroundings, spec: LaunchSpec) -> tuple[LaunchSpec, str]:
    """Prepare the folder for conversations; where that is not possible, launch without, and say why."""
    trouble = await around.contexts.prepare(around.name, spec) if spec.slot_dir else ""
    if not trouble:
        return spec, ""
    return spec.without_slots, not_kept(trouble)


async def adopt(
    around: Surroundings,
    effect: lifecycle.Adopt,
    spec: LaunchSpec,
    argv: tuple[str, ...],
    load: LoadWatch,
) -> Launched:
    """Adopt a process that runs already. `argv`: what it was started with, as far as that is known."""
    spec = spec.found if effect.adopted else spec
    try:
        process = await around.processes.adopt(around.name, effect.holder, spec)
    except ProcessLookupError:
        gone = failure_of(FailureKind.EXITED, f"{effect.holder} ended while it was taken over")
        return lifecycle.SpawnFailed(effect.attempt, gone), None
    watched = WatchedProcess(
        process,
        around,
        attempt=effect.attempt,
        spec=spec,
        argv=argv,
        adopted=effect.adopted,
        taken_over=True,
        load=load,
    )
    spawned = lifecycle.Spawned(
        effect.attempt, process.identity, adopted=effect.adopted, resumed=effect.recorded
    )
    return spawned, watched
