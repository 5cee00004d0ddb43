"""Whatever happens, in whatever order: what must always hold, over 10 000 random lives."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor_app.core import lifecycle
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle import PHASES, Phase, Policy, State, decide
from supervisor_app.core.sightings import Canary, Exit, Health, Identity, PortHolder
from supervisor_app.core.spec import HealthPolicy, RestartPolicy
from supervisor_app.core.status import FailureKind, Model, Status
from supervisor_app.core.testing import stranger
from supervisor_app.core.watch.watchdog import Activity

POLICY = Policy(
    restart=RestartPolicy(max_retries=3, stable_after_ms=20_000),
    health=HealthPolicy(
        max_checks=10, max_load_seconds=30, stall_seconds=6, max_memory_mb=1, canary_minutes=0.1
    ),
)
SHARED = replace(POLICY, room=True)
LEAVES_ERROR = (
    lifecycle.Start,
    lifecycle.Restart,
    lifecycle.ConfigChanged,
    lifecycle.Stop,
    lifecycle.CauseChecked,
)
HEALTH = list(Health)
FAILURES = [
    failure_of(kind)
    for kind in (
        FailureKind.EXITED,
        FailureKind.MODEL_MISSING,
        FailureKind.PORT_TAKEN,
        FailureKind.OUT_OF_MEMORY,
        FailureKind.UNKNOWN,
    )
]
COMMANDS: list[lifecycle.Event] = [
    lifecycle.Start(),
    lifecycle.Start(preload=True),
    lifecycle.Stop(),
    lifecycle.Stop(spare_adopted=True),
    lifecycle.Stop(at_once=True),
    lifecycle.Restart(),
    lifecycle.Restart(at_once=True),
    lifecycle.ConfigChanged(),
    lifecycle.Continue(given_up=False, retries=2, failure=None),
    lifecycle.Continue(given_up=True, retries=3, failure=failure_of(FailureKind.MODEL_MISSING)),
    lifecycle.Resume(stranger(llama=True, pid=7), adopted=False, retries=2),
    lifecycle.Resume(stranger(llama=True, pid=8), adopted=False, retries=0, has_served=True),
]


class Choices:
    """A finite script of numbers; zeros when it is used up."""

    def __init__(self, script: bytes) -> None:
        self._script = list(script)

    def __bool__(self) -> bool:
        return bool(self._script)

    def below(self, limit: int) -> int:
        return self._script.pop(0) % limit if self._script else 0


@dataclass
class World:
    """Answers effects as a machine may, in any order; checks what must hold after every step."""

    choices: Choices
    policy: Policy = POLICY
    state: State = field(default_factory=State)
    now: float = 0.0
    pending: list[lifecycle.Event] = field(default_factory=list)
    spawning: bool = False
    ours: Identity | None = None
    """The one process that is watched."""
    ours_adopted: bool = False
    outside: bool = False
    """A llama-server that nobody watches holds the port."""
    open_runs: int = 0
    pids: int = 100

    def send(self, event: lifecycle.Event) -> None:
        before = self.state
        self.state, effects = decide(before, event, self.policy, self.now)
        if before.status is Status.ERROR and self.state.status is not Status.ERROR:
            assert isinstance(event, LEAVES_ERROR)
            assert not isinstance(event, lifecycle.CauseChecked) or event.gone
        if before.status is Status.ERROR and self.state.status is Status.ERROR:
            assert all(isinstance(effect, lifecycle.CheckCause) for effect in effects)
        for effect in effects:
            self.perform(effect)
        self.check()

    def perform(self, effect: lifecycle.Effect) -> None:  # noqa: C901
        attempt = self.state.attempt
        match effect:
            case lifecycle.InspectPort():
                self.pending.append(lifecycle.Inspected(attempt, self.look_at_port()))
            case lifecycle.AskRoom():
                assert self.policy.room
                self.pending.append(self.answer_for_room(attempt))
            case lifecycle.Spawn():
                assert self.state.has_room or not self.policy.room, "nobody has given it room"
                assert self.ours is None, "a second process for one server"
                assert not self.spawning
                self.spawning = True
                self.pending.append(self.spawn(attempt))
            case lifecycle.Adopt():
                assert self.ours is None
                self.pending.append(self.adopt(attempt, effect))
            case lifecycle.CheckHealth():
                health = HEALTH[self.choices.below(len(HEALTH))]
                ours = self.choices.below(4) != 3
                self.pending.append(lifecycle.HealthChecked(attempt, health, ours))
            case lifecycle.ReadModels():
                models = (Model(id="m", name="m"),) * self.choices.below(2)
                self.pending.append(lifecycle.ModelsRead(attempt, models))
            case lifecycle.Terminate():
                self.signalled(attempt, dies=self.choices.below(2) == 0)
            case lifecycle.Kill():
                self.signalled(attempt, dies=True)
            case lifecycle.CheckActivity():
                memory = self.choices.below(3) * 2**20
                activity = Activity(
                    busy=self.choices.below(2) == 0, mark=self.choices.below(2), memory=memory
                )
                self.pending.append(lifecycle.ActivitySeen(attempt, activity))
            case lifecycle.CheckRequests():
                self.pending.append(lifecycle.RequestsSeen(attempt, self.choices.below(3)))
            case lifecycle.SendCanary():
                assert not self.state.watch.busy, "a canary while there is work"
                canary = list(Canary)[self.choices.below(len(Canary))]
                self.pending.append(lifecycle.CanarySeen(attempt, canary))
            case lifecycle.CheckCause():
                self.pending.append(lifecycle.CauseChecked(attempt, self.choices.below(3) == 0))
            case lifecycle.Forget():
                assert self.ours is not None
                # Its run, if still open, is for the next supervisor to continue.
                self.ours, self.outside, self.open_runs = None, True, 0
            case lifecycle.OpenRun():
                self.open_runs += 1
            case lifecycle.CloseRun():
                self.open_runs = 0

    def answer_for_room(self, attempt: int) -> lifecycle.Event:
        too_big = failure_of(FailureKind.DOES_NOT_FIT)
        return (
            lifecycle.RoomGiven(attempt),
            lifecycle.RoomGiven(attempt),
            lifecycle.RoomAwaited(attempt, "No room."),
            lifecycle.RoomRefused(attempt, too_big),
            lifecycle.NotLoaded(attempt, "Not loaded."),
            lifecycle.RoomBack(attempt),
        )[self.choices.below(6)]

    def look_at_port(self) -> PortHolder | None:
        if self.outside:
            return stranger(llama=True)
        return [None, None, stranger(llama=False), stranger(llama=True)][self.choices.below(4)]

    def spawn(self, attempt: int) -> lifecycle.Event:
        if self.choices.below(4) == 3:
            return lifecycle.SpawnFailed(attempt, FAILURES[self.choices.below(len(FAILURES))])
        self.pids += 1
        return lifecycle.Spawned(attempt, Identity(pid=self.pids, start=1, boot_id="b"))

    def adopt(self, attempt: int, effect: lifecycle.Adopt) -> lifecycle.Event:
        if self.choices.below(4) == 3:
            self.outside = False
            return lifecycle.SpawnFailed(attempt, FAILURES[0])
        identity = effect.holder.identity if self.choices.below(2) else None
        return lifecycle.Spawned(attempt, identity, adopted=effect.adopted, resumed=effect.recorded)

    def signalled(self, attempt: int, *, dies: bool) -> None:
        if self.state.adopted and self.state.identity is None:
            self.pending.append(lifecycle.SignalDenied(attempt))
        elif dies:
            self.exit(attempt)

    def exit(self, attempt: int) -> None:
        if not any(
            isinstance(event, lifecycle.Exited) and event.attempt == attempt for event in self.pending
        ):
            failure = FAILURES[self.choices.below(len(FAILURES))]
            self.pending.append(lifecycle.Exited(attempt, Exit(code=1), failure))

    def deliver(self, index: int) -> None:
        event = self.pending.pop(index % len(self.pending))
        if isinstance(event, lifecycle.Spawned):
            self.spawning = False
            self.ours, self.outside = event.identity or Identity(pid=1, start=1, boot_id="?"), False
            self.ours_adopted = event.adopted
            if event.resumed:
                self.open_runs = 1
        elif isinstance(event, lifecycle.SpawnFailed):
            self.spawning = False
        elif isinstance(event, lifecycle.Exited) and event.attempt == self.state.attempt:
            self.ours = None
        self.send(event)

    def wait(self) -> None:
        """Until the next deadline; a server that waits for room is answered once more."""
        if self.state.phase is Phase.AWAITING_ROOM and not self.pending:
            self.pending.append(self.answer_for_room(self.state.attempt))
        if self.state.deadline is not None:
            self.now = max(self.now, self.state.deadline)
        self.send(lifecycle.Tick())

    def check(self) -> None:
        state = self.state
        assert state.phase in PHASES[state.status]
        assert 0 <= state.retries <= POLICY.restart.max_retries
        assert self.open_runs <= 1
        has_process = state.phase in lifecycle.HAS_PROCESS
        assert (self.ours is not None) == has_process, "the machine and the state disagree"
        if has_process and state.phase is not Phase.ENDING:
            assert self.open_runs == 1
        if state.phase is not Phase.IDLE:
            waits_for_others = state.phase in (Phase.ENDING, Phase.AWAITING_ROOM)
            assert state.deadline is not None or self.pending or waits_for_others, "nothing will ever happen"


def live(world: World) -> None:
    """Random commands, deaths, answers and time, until the script is used up."""
    while world.choices:
        action = world.choices.below(8)
        if action < 2:
            world.send(COMMANDS[world.choices.below(len(COMMANDS))])
        elif action == 2 and world.state.phase in lifecycle.HAS_PROCESS:
            world.exit(world.state.attempt)
        elif action == 3 and world.policy.room:
            world.send(lifecycle.Unload(world.state.attempt, "Room is made.", "Not loaded."))
        elif action < 6 and world.pending:
            world.deliver(world.choices.below(16))
        else:
            world.wait()


@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=120), st.sampled_from([POLICY, SHARED]))
def test_every_life_has_one_process_bounded_retries_and_a_stop_that_ends(script, policy):
    world = World(Choices(script), policy)
    live(world)

    # From wherever it is: a stop must end in `initial`, with nothing left running that is watched.
    world.send(lifecycle.Stop())
    for _ in range(50):
        if world.state.status is Status.INITIAL:
            break
        if world.pending:
            world.deliver(0)
        else:
            world.wait()
    assert world.state.status is Status.INITIAL
    assert world.ours is None
    assert world.open_runs == 0
    assert not world.state.unloaded

    # And a stopped server stays stopped, whatever late answers still come.
    while world.pending:
        world.deliver(0)
        assert world.state.status is Status.INITIAL


@settings(max_examples=500, deadline=None)
@given(st.binary(min_size=20, max_size=120))
def test_error_is_only_left_by_a_wish_or_when_its_cause_is_gone(script):
    """Checked on every step by `World.send`; here from the state itself, with every event there is."""
    permanent = failure_of(FailureKind.MODEL_CORRUPT)
    error = State(status=Status.ERROR, failure=permanent, cause_at=2.0, retries=3)
    world = World(Choices(script), SHARED, error)
    live(world)


@given(st.integers(1, 200), st.integers(1, 10_000), st.integers(1, 100_000))
def test_backoff_doubles_and_never_exceeds_its_cap(retry, first, cap):
    policy = RestartPolicy(retry_backoff_ms=first, max_backoff_ms=max(first, cap))
    assert policy.backoff(retry) <= policy.backoff(retry + 1) <= policy.max_backoff_ms / 1000
