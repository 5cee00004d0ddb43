"""Small worlds: sizes are in GiB, and the clock stands at 1000."""

from __future__ import annotations

from dataclasses import replace

from supervisor_app.core.placement.decisions import Decision, Evict, Plan, Refuse, Start, Wait
from supervisor_app.core.placement.plan import plan
from supervisor_app.core.placement.reasons import Reason, sentence
from supervisor_app.core.placement.world import (
    Budget,
    Cause,
    Demand,
    Need,
    Policy,
    Resident,
    Source,
    Standing,
    World,
)

GIB = 1024**3
NOW = 1000.0
GPU, OTHER_GPU = "gpu0", "gpu1"
UNKNOWN = Need(devices={}, source=Source.UNKNOWN)
BUSY, IDLE, LOADING, LEAVING = Standing.BUSY, Standing.IDLE, Standing.LOADING, Standing.LEAVING


def need(gib: float | dict[str, float], source: Source = Source.MEASURED, **rest) -> Need:
    devices = gib if isinstance(gib, dict) else {GPU: gib}
    return Need(devices={name: int(each * GIB) for name, each in devices.items()}, source=source, **rest)


def budget(gib: float = 24, *, device: str = GPU, strangers: float = 0, reserve: float = 0) -> Budget:
    total, used, kept = int(gib * GIB), int(strangers * GIB), int(reserve * GIB)
    return Budget(device=device, name=f"the {device}", total=total, reserve=kept, strangers=used)


def resident(name: str, gib: float | dict[str, float] | Need, standing: Standing = IDLE, **rest) -> Resident:
    """Ready for 500 s, unused for 100 s, and loaded in 5 s, unless something else is said."""
    told = {"ready_since": None if standing is LOADING else NOW - 500, "last_used": NOW - 100} | rest
    return Resident(
        name=name,
        need=gib if isinstance(gib, Need) else need(gib),
        standing=standing,
        **{"load_seconds": 5.0, "requests": 0, "pinned": False, "group": "", "priority": 0} | told,
    )


def demand(name: str, gib: float | dict[str, float] | Need, cause: Cause = Cause.REQUEST, **rest) -> Demand:
    """One request that waits since a second ago, unless something else is said."""
    told = {
        "since": NOW - 1,
        "waiting": int(cause is Cause.REQUEST),
        "pinned": False,
        "group": "",
        "priority": 0,
    }
    return Demand(name=name, need=gib if isinstance(gib, Need) else need(gib), cause=cause, **told | rest)


def preload(name: str, gib: float | dict[str, float] | Need, **rest) -> Demand:
    return demand(name, gib, Cause.PRELOAD, **rest)


def planned(
    *servers: Resident | Demand, budgets: tuple[Budget, ...] = (budget(),), now: float = NOW, **rules
) -> Plan:
    """On a GPU of 24 GiB."""
    world = World(budgets=budgets, residents=tuple(each for each in servers if isinstance(each, Resident)))
    return plan(world, [each for each in servers if isinstance(each, Demand)], Policy(**rules), now)


def decided(*servers: Resident | Demand, **rest) -> list[str]:
    """In short: `start a`, `evict b for a`, `wait c`, `refuse d`."""
    return [_short(decision) for decision in planned(*servers, **rest).decisions]


def reason_of(name: str, *servers: Resident | Demand, **rest) -> Reason:
    return next(
        decision.reason
        for decision in planned(*servers, **rest).decisions
        if isinstance(decision, Wait | Refuse) and decision.name == name
    )


def said_of(name: str, *servers: Resident | Demand, **rest) -> str:
    return sentence(reason_of(name, *servers, **rest))


def later(server: Demand, seconds: float) -> Demand:
    return replace(server, since=server.since + seconds)


def _short(decision: Decision) -> str:
    match decision:
        case Start(name):
            return f"start {name}"
        case Evict(name, for_):
            return f"evict {name} for {for_}"
        case Wait(name):
            return f"wait {name}"
        case Refuse(name):
            return f"refuse {name}"
