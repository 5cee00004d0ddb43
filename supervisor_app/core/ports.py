"""Protocols through which the supervisor sees and changes the world, and the errors that they raise.

`core.machine`, `fleet.store` and `fleet.publish` are the real ones; `core.testing` ships the fakes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from supervisor_app.core.changes import Change, Remembered
    from supervisor_app.core.context.saved import Kept
    from supervisor_app.core.devices import Survey
    from supervisor_app.core.diagnosis.named_files import BadFile
    from supervisor_app.core.memory_rules import MemoryRules
    from supervisor_app.core.placement.world import Need
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.sightings import (
        Autopsy,
        Canary,
        Cause,
        Endpoint,
        Exit,
        Health,
        Identity,
        MemorySample,
        PortHolder,
        ProcessUsage,
        Slots,
    )
    from supervisor_app.core.spec import LaunchSpec
    from supervisor_app.core.status import Failure, LlamaStatus, Model


class SpawnError(Exception):
    """The process could not be started; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.sentence)
        self.failure = failure


class SignalDeniedError(Exception):
    """The process may not be signalled by us: another user's, or one whose pid we cannot see."""


class ProbeError(Exception):
    """The server did not answer as a llama-server does; the message says how."""


class Process(Protocol):
    """A running llama-server, spawned or adopted. Signals reach this process and no other.

    Every method but `wait` and `forget` may raise ShortageError: our own process was short of something.
    """

    identity: Identity | None
    started_at: float
    """Unix seconds."""

    async def wait(self) -> Exit:
        """Wait until the process is gone and, if it was our child, reaped. May be awaited again."""

    def terminate(self) -> None:
        """Send SIGTERM to the process and its group, unless it is gone. Raises SignalDeniedError."""

    def kill(self) -> None:
        """Send SIGKILL to the process and its group, unless it is gone. Raises SignalDeniedError."""

    async def endpoint(self, spec: LaunchSpec) -> Endpoint | None:
        """Find where the process, or a child of it, listens on the spec's port; None while it does not."""

    async def means_file(self, path: str, file: Path) -> bool:
        """Is `path`, as this process says it, that file? A relative one counts from where it was started."""

    async def usage(self, spec: LaunchSpec) -> ProcessUsage:
        """Usage of the process and its children; zeros when it is gone or hidden."""

    async def look(self, spec: LaunchSpec) -> tuple[ProcessUsage, MemorySample | None]:
        """Usage and memory, as `usage` and `sample` tell them, at one look."""

    async def sample(self) -> MemorySample | None:
        """Memory of the process and its machine now; None when the process is gone or hidden."""

    async def autopsy(self) -> Autopsy:
        """Read what the kernel says of the end of the process, once it is gone."""

    async def resident_bytes(self) -> int:
        """Memory of it and its children, file pages included; 0 when it is gone."""

    async def mapped_bytes(self) -> int:
        """Pages in memory of files that it maps as data, as models are; 0 when that cannot be seen."""

    async def fetched(self) -> int:
        """Bytes of the files that it and its children write, its log counted only where there is none."""

    async def last_lines(self, count: int, since: int | None = None) -> list[str]:
        """The end of what this run wrote, oldest first; empty when its output is not in our file.

        `since` leaves out what was written before that position.
        """

    async def log_position(self) -> int:
        """Bytes that the process has written to its log by now."""

    async def log_trouble(self) -> str:
        """Fate of the log file, as a sentence; empty while the file is in its place."""

    def has_clients(self, endpoint: Endpoint) -> bool:
        """May anybody be connected to where the process was proved to listen? True where that is not told."""

    def leaves_nothing(self) -> bool:
        """Has the process been seen to be gone with all of its group? False where that cannot be told."""

    def forget(self) -> None:
        """Stop watching the process, which runs on."""


class Processes(Protocol):
    """Starts, finds and takes over processes of one machine. Every method may raise ShortageError."""

    async def port_holder(self, name: str, spec: LaunchSpec) -> PortHolder | None:
        """Find who listens on the address of the server with this name; None when the address is free."""

    async def find(self, name: str, identity: Identity, spec: LaunchSpec) -> PortHolder | None:
        """The process with exactly this identity, if it lives and its user may serve us."""

    async def find_ours(self, name: str, but: Identity | None = None) -> PortHolder | None:
        """A living process that was spawned for the server with this name, wherever it listens, if at all.

        `but`: one that is not meant.
        """

    async def end_rest(self, name: str, only: Identity | None = None) -> None:
        """Kill the children that a process which was spawned for this server left behind.

        `only` those of this process: another one of the server lives.
        """

    async def spawn(self, name: str, spec: LaunchSpec) -> Process:
        """Start a process in its own session, its output appended to a file. Raises SpawnError."""

    async def adopt(self, name: str, holder: PortHolder, spec: LaunchSpec) -> Process:
        """Adopt a running process. Raises ProcessLookupError when it has just gone."""

    async def cause_of(self, name: str, failure: Failure, spec: LaunchSpec) -> Cause | None:
        """Look at the cause of a permanent failure; None when it cannot be seen from outside."""

    async def bad_files(self, name: str, spec: LaunchSpec) -> list[BadFile]:
        """List the files named on the command line that cannot be used, as far as can be seen."""

    async def model_bytes(self, name: str, spec: LaunchSpec) -> int:
        """Size of the model's files, all parts together; 0 when unknown."""

    async def read_ahead(self, spec: LaunchSpec, most: int) -> None:
        """Read the files of a launch into memory until cancelled; none if they exceed `most` bytes."""

    async def devices(self, pids: Collection[int]) -> Survey:
        """Memory of this machine and its GPUs; what these processes and their children use is ours."""

    def log_is_large(self, name: str) -> bool:
        """Has a server's log outgrown its bounds? Does not block."""

    async def trim_log(self, name: str) -> bool:
        """Keep a server's log within its bounds. True when that was due. Raises OSError."""


class Probe(Protocol):
    """Asks a server, never blocking the event loop, never raising for what a network may do.

    Every method may raise ShortageError: the question could not be asked.
    """

    async def health(self, spec: LaunchSpec, timeout: float) -> Health: ...  # noqa: ASYNC109

    async def models(self, spec: LaunchSpec, timeout: float) -> tuple[Model, ...]:  # noqa: ASYNC109
        """Raises ProbeError."""

    async def running_model(self, spec: LaunchSpec, timeout: float) -> str:  # noqa: ASYNC109
        """The path of its model, as the server says it; empty when it does not."""

    async def slots(self, spec: LaunchSpec, timeout: float, *, may_wake: bool) -> Slots:  # noqa: ASYNC109
        """Read the slots. Without `may_wake` a sleeping server is left asleep and counts as idle."""

    async def canary(self, spec: LaunchSpec, timeout: float) -> Canary:  # noqa: ASYNC109
        """Ask for one token. A sleeping server is left asleep."""


class Alarm(Protocol):
    """A call that is to come."""

    def cancel(self) -> object: ...


class Clock(Protocol):
    """Both clocks: `monotonic` decides, `time` (Unix seconds) is only shown and stored."""

    def monotonic(self) -> float: ...

    def time(self) -> float: ...

    async def sleep_until(self, deadline: float) -> None:
        """`deadline` in seconds of `monotonic`; one that has passed returns at once."""

    def call_at(self, deadline: float, call: Callable[[], None]) -> Alarm:
        """Call once, from the event loop, unless that is cancelled before; `deadline` as above."""


@dataclass(frozen=True, kw_only=True)
class TurnHolder:
    """A server that may be down for a restart now, so that others may not."""

    server: str
    alias: str
    """Name that it shares with the server that asks."""
    failed: bool = False
    """The server has failed since: it is down until somebody mends or stops it."""


class Turns(Protocol):
    """Turns of servers that share an alias. Every method may raise StoreError; none blocks the loop."""

    async def acquire_turn(self, name: str, aliases: Sequence[str]) -> TurnHolder | None:
        """Acquire the turn of all these aliases, or of none: then return a server that has one of them.

        A server whose node has no supervisor has none. Acquired again, the turn stays the server's.
        """

    async def release_turn(self, name: str) -> None:
        """Release all turns that the server has."""


class Store(Turns, Protocol):
    """The truth on disk. Every method may raise StoreError; none blocks the event loop."""

    memory_rules: MemoryRules | None
    """Rules of the node for its memory, as of the last `configs`; None: the file has none."""

    async def configs(self) -> Sequence[ServerConfig]:
        """Read what should run on this node."""

    async def remember(self, name: str) -> Remembered: ...

    async def save(self, change: Change) -> None:
        """Snapshot and history in one transaction. A server that was deleted meanwhile is ignored."""

    async def heartbeat(self, names: Sequence[str], devices: Survey | None = None) -> None:
        """Tell readers and other supervisors that this node has one, which looks after these servers.

        `devices`: a look at the node's memory, if there was a new one. Raises NodeTakenError when another
        supervisor has the node by now.
        """

    async def prune(self) -> bool:
        """Delete some of what nobody needs any more; True when there may be more of it."""


class Footprints(Protocol):
    """Memory that servers need, by their models, flags and engine. Needs and news keep their order."""

    async def need(self, name: str, spec: LaunchSpec) -> Need:
        """Return the best that is known of this launch.

        Never raises for a model that cannot be read or a database that is away: a need that nobody knows has
        no bytes and `Source.UNKNOWN`.
        """

    def learned(
        self,
        name: str,
        spec: LaunchSpec,
        devices: Mapping[str, int],
        out_of_memory: bool = False,
        run: Identity | None = None,
    ) -> None:
        """Note the peak of a run so far, in bytes by device; again when it has grown. Never waits.

        `out_of_memory`: the run has died for want of these devices, of all if none is named; 0 bytes where
        nobody saw how many it had. The same `run` counts once.
        """

    def told(self, name: str, spec: LaunchSpec, lines: Sequence[str], run: Identity | None = None) -> None:
        """Note that a run of this launch is ready, and what its engine said of memory. Never waits.

        `lines`: of its log until then. All that is learned of this run is true of the files as they are now.
        """


class Contexts(Protocol):
    """Conversations of servers, kept over a planned end in the folder `LaunchSpec.slot_dir`.

    No method raises: what went wrong is in the answer.
    """

    async def prepare(self, name: str, spec: LaunchSpec) -> str:
        """Make the folder. Return why that is not possible, as part of a sentence; empty: it is there."""

    async def save(self, name: str, spec: LaunchSpec, started_at: float, seconds: float) -> Kept:
        """Save the idle conversations of a server that runs since a moment, within so many seconds.

        `started_at`: Unix seconds. Files that are newer are not those that it has loaded.
        """

    async def restore(self, name: str, spec: LaunchSpec, seconds: float) -> Kept:
        """Restore what was saved into a server that has just started, if it is the same; delete the files."""

    async def forget(self, names: Collection[str]) -> None:
        """Delete what was saved of these servers."""

    async def prune(self) -> None:
        """Delete what is too old or too much, of all servers."""

    async def answers(self, name: str, since: float, count: int) -> Sequence[int]:
        """Return the tokens that each of the first answers since a moment found in the cache.

        `since`: Unix seconds. An answer that does not tell is left out; so are all while nobody can be asked.
        """


class RoomDesk(Protocol):
    """Gives room in memory, or a turn to load, to the servers of a node, by what it reads of their states."""

    @property
    def is_on(self) -> bool:
        """Is room to be asked for at all?"""

    @property
    def in_turn(self) -> bool:
        """Is a turn to load to be asked for, as there are more servers than may load at a time?"""

    def nudge(self) -> None:
        """Look at the servers now: one asks for room, or stands otherwise than before."""

    async def may_fit(self, name: str) -> bool:
        """Would a server that was refused be refused again? Raises ShortageError."""

    async def fits_beside(self, name: str, spec: LaunchSpec) -> str:
        """Return why a second process of a server has no room beside the first; empty: it has.

        Nobody goes for it, and nobody's wait is longer for the asking.
        """


class NodeTakenError(Exception):
    """The node is held by another supervisor; the message says which."""


class Publisher(Protocol):
    """Tells every open page. Loses a message rather than raise or block."""

    async def announce(self, snapshot: LlamaStatus) -> None:
        """Announce a status to the gateways, as fast as can be: requests wait for it."""

    async def publish(self, snapshot: LlamaStatus) -> None:
        """Publish a status to the pages."""

    async def removed(self, name: str) -> None: ...
