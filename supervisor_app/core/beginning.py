"""The beginning of a server's supervision: what the last supervisor left, and what is done with that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.common.records import replace
from supervisor_app.core import lifecycle
from supervisor_app.core.neighbours import owner_of
from supervisor_app.core.status import Status
from supervisor_app.core.survivor import look_back, port_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.core.changes import Remembered
    from supervisor_app.core.chronicle import Chronicle
    from supervisor_app.core.neighbours import Neighbours
    from supervisor_app.core.sightings import PortHolder
    from supervisor_app.core.steps import Steps
    from supervisor_app.core.wakes import Wakes

FAILED = frozenset({Status.CRASHED, Status.ERROR})


async def begin(
    steps: Steps,
    remembered: Remembered,
    *,
    chronicle: Chronicle,
    wakes: Wakes,
    neighbours: Neighbours,
    is_ending: Callable[[], bool],
) -> None:
    """Find out what the last supervisor left, before anything else, and go on with it.

    `is_ending`: the supervisor was told to stop meanwhile. No older wish may follow that stop.
    """
    has_new_name = bool(owner_of(remembered.identity, neighbours))
    if has_new_name:  # under the old one its process is let go
        remembered = replace(remembered, identity=None, replacement=None)
    looked = await look_back(steps.seats.own.around, steps.config.spec, remembered, is_ending)
    found, beside = looked or (None, None)
    if looked is not None and remembered.run_open and (found is None or not found.recorded):
        chronicle.close_unseen(has_new_name=has_new_name)
    elif found is not None:
        chronicle.resume()
    if found is not None:
        steps.move(port_of(found, remembered, steps.placed.port))
        steps.step(found)
    if is_ending():
        return
    _resume(steps, remembered, found, beside)
    steps.apply(steps.placed.given)
    if wakes.empty and steps.config.desired_running and steps.state.status is Status.INITIAL:
        steps.tell(lifecycle.Start(preload=True))
    if wakes.empty:  # else the first step says more, and no page flashes "initial"
        steps.record()


def _resume(
    steps: Steps, remembered: Remembered, found: lifecycle.Resume | None, beside: PortHolder | None
) -> None:
    """Go on with what was under way: a restart without a gap, a wish, or the pause after a crash."""
    if found is not None:
        rest = steps.succession.resume_left(found, beside, remembered)
        if rest is not None:
            steps.tell(rest)
    elif remembered.status in FAILED and steps.config.desired_running:
        given_up = remembered.status is Status.ERROR
        steps.step(lifecycle.Continue(given_up, remembered.retries, remembered.failure, remembered.deaths))
