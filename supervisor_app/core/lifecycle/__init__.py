"""The lifecycle of one llama-server as a pure state machine: `decide(state, event, policy, now)`.

It never looks at a clock, a process or a network. The runner (`core.supervisor`) turns what happens into
events, performs the effects in order, and calls `decide` with a `Tick` when `State.deadline` has come.
Every effect that will be answered carries `attempt`; an answer to an older attempt is ignored, so a slow
reply can never move a server that has gone on.

    initial --start--> starting --200 from our process, models read--> ready
    starting|ready --exit, never ready, hung--> crashed --backoff over--> starting
    crashed --retries used up--> error          starting --permanent failure--> error
    error --start | config changed | the cause is gone--> starting
    any --stop--> stopping --gone--> initial
    ready --another needs its room--> stopping --gone--> initial, until somebody asks for it
"""

from __future__ import annotations

from supervisor_app.core.lifecycle.decide import decide
from supervisor_app.core.lifecycle.effects import (
    DEBUG,
    ERROR,
    INFO,
    WARNING,
    Adopt,
    AskRoom,
    Attempted,
    CheckActivity,
    CheckCause,
    CheckHealth,
    CloseRun,
    Effect,
    Forget,
    InspectPort,
    Kill,
    Log,
    MarkReady,
    OnProcess,
    OpenRun,
    ReadModels,
    ReadModelsAgain,
    SendCanary,
    Spawn,
    Terminate,
)
from supervisor_app.core.lifecycle.events import (
    ActivitySeen,
    CanarySeen,
    CauseChecked,
    ConfigChanged,
    Continue,
    Event,
    Exited,
    Explained,
    Fetching,
    HealthChecked,
    Inspected,
    ModelsRead,
    ModelsReadAgain,
    NotLoaded,
    Postponed,
    Restart,
    Resume,
    RoomAwaited,
    RoomGiven,
    RoomRefused,
    SignalDenied,
    Spawned,
    SpawnFailed,
    Start,
    Stop,
    Tick,
    Unload,
    Unobserved,
)
from supervisor_app.core.lifecycle.hindrance import AGAIN_SECONDS
from supervisor_app.core.lifecycle.state import HAS_PROCESS, PHASES, Decision, Phase, Policy, State

__all__ = [
    "AGAIN_SECONDS",
    "DEBUG",
    "ERROR",
    "HAS_PROCESS",
    "INFO",
    "PHASES",
    "WARNING",
    "ActivitySeen",
    "Adopt",
    "AskRoom",
    "Attempted",
    "CanarySeen",
    "CauseChecked",
    "CheckActivity",
    "CheckCause",
    "CheckHealth",
    "CloseRun",
    "ConfigChanged",
    "Continue",
    "Decision",
    "Effect",
    "Event",
    "Exited",
    "Explained",
    "Fetching",
    "Forget",
    "HealthChecked",
    "InspectPort",
    "Inspected",
    "Kill",
    "Log",
    "MarkReady",
    "ModelsRead",
    "ModelsReadAgain",
    "NotLoaded",
    "OnProcess",
    "OpenRun",
    "Phase",
    "Policy",
    "Postponed",
    "ReadModels",
    "ReadModelsAgain",
    "Restart",
    "Resume",
    "RoomAwaited",
    "RoomGiven",
    "RoomRefused",
    "SendCanary",
    "SignalDenied",
    "Spawn",
    "SpawnFailed",
    "Spawned",
    "Start",
    "State",
    "Stop",
    "Terminate",
    "Tick",
    "Unload",
    "Unobserved",
    "decide",
]
