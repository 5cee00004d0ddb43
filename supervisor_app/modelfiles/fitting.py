"""Does a model fit a node? The planner's own answer, on a machine on which none of our servers runs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from supervisor_app.common.words import roughly, size, told_apart
from supervisor_app.core.devices import HOST, Survey
from supervisor_app.core.placement.decisions import Refuse, Start
from supervisor_app.core.placement.plan import plan
from supervisor_app.core.placement.reasons import sentence
from supervisor_app.core.placement.world import Cause, Demand, Policy, Source, World
from supervisor_app.core.room.budgets import THE_HOST, budgets_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.core.devices import Device
    from supervisor_app.core.memory_rules import MemoryRules
    from supervisor_app.core.placement.world import Budget, Need

SPARE = 1.1
"""Factor on the size of a file that is not here yet, for a short context and computing."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """`fits` None: nobody knows."""

    fits: bool | None = None
    sentence: str = ""


def fit_of(name: str, need: Need, devices: Sequence[Device], rules: MemoryRules, remark: str = "") -> Fit:
    """Ask the planner. `remark`: the flags of which the need is told, such as `with -c 8192`."""
    if not devices or not need.devices:
        return Fit()
    demand = Demand(
        name=name,
        need=need,
        cause=Cause.WISH,
        since=0.0,
        waiting=0,
        pinned=False,
        group="",
        priority=0,
    )
    budgets = _budgets(devices, rules)
    (decision, *_) = plan(World(budgets=budgets, residents=()), [demand], Policy(), 0.0).decisions
    if isinstance(decision, Refuse):
        return Fit(fits=False, sentence=sentence(decision.reason))
    if isinstance(decision, Start) and decision.remark is not None:
        return Fit(sentence=sentence(decision.remark))
    return Fit(fits=True, sentence=_fitting(need, budgets, remark))


def fit_of_size(count: int, devices: Sequence[Device], rules: MemoryRules) -> Fit:
    """Guess by the size of the files alone, for a model that is not here yet."""
    if not devices or not count:
        return Fit()
    budgets, needed = _budgets(devices, rules), round(count * SPARE)
    gpus = sum(budget.usable for budget in budgets if budget.device != HOST)
    host = sum(budget.usable for budget in budgets if budget.device == HOST)
    about = f"Needs about {roughly(needed)} (by its size)"
    if needed <= gpus:
        return Fit(fits=True, sentence=f"{about}. GPUs can have {size(gpus)}.")
    if gpus and needed <= gpus + host:
        return Fit(
            fits=True,
            sentence=f"{about}. GPUs can have {size(gpus)}: a part of it would compute on the host, slowly.",
        )
    if needed <= host:
        return Fit(fits=True, sentence=f"{about}. The host can have {size(host)}.")
    needs, all_of_it = told_apart(needed, gpus + host, guess=True)
    return Fit(fits=False, sentence=f"Needs about {needs} (by its size). This node can have {all_of_it}.")


def _budgets(devices: Sequence[Device], rules: MemoryRules) -> tuple[Budget, ...]:
    """Return what is there once all of our servers are stopped."""
    alone = tuple(replace(device, free=device.free + device.ours, ours=0) for device in devices)
    return budgets_of(Survey(alone), rules, ())


def _fitting(need: Need, budgets: Sequence[Budget], remark: str) -> str:
    names = {budget.device: (budget.name, budget.usable) for budget in budgets}
    exact = need.source is not Source.ESTIMATED
    parts = [
        f"{size(count) if exact else f'about {roughly(count)}'} of {size(names[device][1])} on"
        f" {names[device][0]}"
        for device, count in sorted(need.devices.items(), key=lambda item: -item[1])
        if device in names and count
    ]
    source = f" ({need.source.value})"
    return f"Needs {' and '.join(parts) or f'no memory of {THE_HOST}'}{source}{remark and f' {remark}'}."
