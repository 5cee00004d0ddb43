"""Drives the decisions about one server, step by step. Pure: no clock, no process."""

from __future__ import annotations

from supervisor_app.core import lifecycle
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle import Phase, Policy, State, decide
from supervisor_app.core.sightings import Exit, Health, Identity
from supervisor_app.core.spec import RestartPolicy
from supervisor_app.core.status import FailureKind, Model, Status
from supervisor_app.core.testing import exited

POLICY = Policy(restart=RestartPolicy(drain_seconds=0))
"""Ends at once: `test_lifecycle_draining` is about those that do not."""
ME = Identity(pid=42, start=1, boot_id="b")
MODEL = Model(id="m", name="m")
CORRUPT = failure_of(FailureKind.MODEL_CORRUPT, "invalid magic characters")


class Server:
    """Drives `decide` and remembers the effects of the last step."""

    def __init__(self, policy: Policy = POLICY, state: State | None = None) -> None:
        self.policy, self.state, self.now = policy, state or State(), 0.0
        self.effects: list[lifecycle.Effect] = []

    def send(self, event: lifecycle.Event) -> Server:
        self.state, self.effects = decide(self.state, event, self.policy, self.now)
        return self

    def after(self, seconds: float) -> Server:
        self.now += seconds
        return self.send(lifecycle.Tick())

    def to_next_deadline(self) -> Server:
        assert self.state.deadline is not None
        return self.after(self.state.deadline - self.now)

    def spawned(self) -> Server:
        self.send(lifecycle.Start()).send(lifecycle.Inspected(self.state.attempt, None))
        return self.send(lifecycle.Spawned(self.state.attempt, ME))

    def healthy(self, health: Health = Health.OK, *, ours: bool = True) -> Server:
        return self.send(lifecycle.HealthChecked(self.state.attempt, health, ours))

    def ready(self) -> Server:
        self.spawned().healthy()
        return self.send(lifecycle.ModelsRead(self.state.attempt, (MODEL,)))

    def dies(self, failure=None, **exit) -> Server:
        return self.send(
            lifecycle.Exited(self.state.attempt, Exit(**(exit or {"code": 1})), failure or exited())
        )

    def has(self, kind: type) -> bool:
        return any(isinstance(effect, kind) for effect in self.effects)

    def logs(self) -> list[str]:
        return [effect.text for effect in self.effects if isinstance(effect, lifecycle.Log)]

    @property
    def where(self) -> tuple[Status, Phase]:
        return self.state.status, self.state.phase
