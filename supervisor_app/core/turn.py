"""The turn of a server among its replicas: those that share an alias restart one after the other."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from supervisor_app.common.storage import StoreError
from supervisor_app.core import lifecycle
from supervisor_app.core.status import Status

if TYPE_CHECKING:
    from supervisor_app.core.ports import TurnHolder, Turns
    from supervisor_app.core.recorder import Recorder
    from supervisor_app.core.seat import Seat
    from supervisor_app.core.seats import Seats
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.tasks import Tasks

SAVE_SECONDS = 5.0
"""Time for writing down that the server is ready, before another one may restart."""
AWAY = "Waits to restart until the database answers: it says whether a replica restarts now."

Held = lifecycle.Restart | lifecycle.ConfigChanged


class Host(Protocol):
    """The steps of the server."""

    config: ServerConfig

    def tell(self, event: lifecycle.Event) -> None:
        """Take an event of the server's own process."""

    def act(self, event: lifecycle.Event) -> None:
        """Decide on an event now, and count its generation as acted on."""


class Turn:
    """Holds a planned restart back until no other server that shares an alias is down for one."""

    def __init__(
        self, host: Host, seats: Seats, turns: Turns, *, recorder: Recorder, tasks: Tasks, held: bool
    ) -> None:
        """`held`: the last supervisor has acquired the turn."""
        self._host = host
        self._seats = seats
        self._turns = turns
        self._recorder = recorder
        self._tasks = tasks
        self._held = held
        """The turn may be the server's in the database."""
        self._given = False
        """The restart that waits has its turn."""
        self._busy = False
        self._waiting: Held | None = None
        self.said = ""
        """Reason for which a restart waits, as a sentence; empty: none does."""

    def holds_back(self, event: lifecycle.Event) -> bool:
        """Take an event before it is decided on. True: nothing is to be done with it now."""
        match event:
            case lifecycle.Start() if self._waiting is not None and is_in_use(self._seats.own.state):
                if isinstance(self._waiting, lifecycle.Restart):  # both are acted on once it has restarted
                    self._waiting = lifecycle.Restart(self._waiting.note, generation=event.generation)
                    return True
            case lifecycle.Stop():
                self._forget()
            case lifecycle.ConfigChanged() if isinstance(self._waiting, lifecycle.Restart):
                return True
            case lifecycle.ConfigChanged() if self._waiting is not None and runs(
                self._seats.own, self._host.config
            ):
                self._forget()
                return True
            case lifecycle.Restart() | lifecycle.ConfigChanged():
                self._forget()
                if self._must_wait(event):
                    self._waiting = event
                    self.poll()
                    return True
        return False

    def follow(self) -> None:
        """Do what follows from where the server stands now."""
        waiting = self._waiting
        if waiting is not None and (self._given or not self._must_wait(waiting)):
            self._forget()
            self._host.act(waiting)
        if self._held and self._waiting is None and not self._busy and is_settled(self._seats.own.state):
            self._begin(release=True)

    def poll(self) -> None:
        """Ask again for the turn of a restart that waits."""
        if self._waiting is not None and not self._busy:
            self._begin(release=False)

    def _must_wait(self, event: Held) -> bool:
        at_once = isinstance(event, lifecycle.Restart) and event.at_once
        if at_once or not self._host.config.shared_names:
            return False
        return is_in_use(self._seats.own.state) or (event is self._waiting and self.keeps)

    @property
    def keeps(self) -> bool:
        """Does a server that has crashed come back as it ran? A change of it waits, and may not work."""
        seat = self._seats.own
        changed = self._waiting is not None and seat.config.spec != self._host.config.spec
        return changed and comes_back(seat.state)

    def _forget(self) -> None:
        self._waiting, self._given, self.said = None, False, ""

    def _begin(self, *, release: bool) -> None:
        self._busy = True
        self._tasks.start(self._release() if release else self._acquire(self._waiting), "turn")

    async def _acquire(self, waiting: Held | None) -> None:
        config = self._host.config
        try:
            holder = await self._turns.acquire_turn(config.name, config.shared_names)
        except StoreError:
            said, given = AWAY, False
        else:
            said, given = ("", True) if holder is None else (waits(config.name, holder), False)
        self._busy = False
        self._held = self._held or given
        if self._waiting is waiting:
            self.said, self._given = said, given
        else:
            self.poll()
        self._host.tell(lifecycle.Tick())  # what follows is done by the task that decides

    async def _release(self) -> None:
        if await self._recorder.saved(SAVE_SECONDS):
            with suppress(StoreError):  # then at a later step
                await self._turns.release_turn(self._host.config.name)
                self._held = False
        self._busy = False


def is_in_use(state: lifecycle.State) -> bool:
    """Tell whether a server may have requests that a restart would take it away from."""
    return state.phase is lifecycle.Phase.SERVING or (state.status is Status.STARTING and state.has_served)


def comes_back(state: lifecycle.State) -> bool:
    """Tell whether a server is on its way back from a crash."""
    return state.status in (Status.CRASHED, Status.STARTING)


def is_settled(state: lifecycle.State) -> bool:
    """Tell whether a restart is over: the server serves again, or is not to run."""
    return state.phase is lifecycle.Phase.SERVING or state.status is Status.INITIAL


def runs(seat: Seat, config: ServerConfig) -> bool:
    """Tell whether the process of a seat was started as is configured now."""
    known = seat.watched is not None and seat.watched.argv == config.spec.argv
    return known and seat.config.spec == config.spec


def waits(name: str, holder: TurnHolder) -> str:
    """Say for whom a server waits, and what people can do about it."""
    if not holder.failed:
        return f"Waits to restart until `{holder.server}` is ready again: both answer to `{holder.alias}`."
    return (
        f"Stays as it is: `{holder.server}`, which answers to `{holder.alias}`, too, did not get ready after "
        f"its restart. Mend or stop `{holder.server}`, or restart this one: llama restart {name} --now."
    )
