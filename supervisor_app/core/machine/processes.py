"""The processes of this machine: who holds a port, spawn, adopt.

A child gets its own session and its output goes to a file, so it outlives us. Each server has threads of its
own for looks at the machine, for its disk and for its start: a mount that hangs holds no other server up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING

from supervisor_app.common.redact import secrets_of
from supervisor_app.common.words import span
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.diagnosis.named_files import BadFile, bad_files
from supervisor_app.core.machine.causes import cause_of
from supervisor_app.core.machine.devices.survey import PATIENCE, Surveyor, this_machine
from supervisor_app.core.machine.identity import identity_of
from supervisor_app.core.machine.lanes import Lane, Lanes
from supervisor_app.core.machine.listeners import (
    Recognise,
    answers,
    holder_of,
    in_the_way,
    is_blocked,
    is_trusted,
    seen_process,
    why_not_bindable,
)
from supervisor_app.core.machine.logs import LogFile, server_of
from supervisor_app.core.machine.memory import GpuMeter, MemoryMeter
from supervisor_app.core.machine.model_files import files_size
from supervisor_app.core.machine.open_log import OpenLog
from supervisor_app.core.machine.probe import looks_like_llama_server
from supervisor_app.core.machine.process import LocalProcess
from supervisor_app.core.machine.read_ahead import read_ahead
from supervisor_app.core.machine.sockets import uid_of
from supervisor_app.core.machine.spawning import spawn_child, unspawn
from supervisor_app.core.machine.writers import end_writers, find_server
from supervisor_app.core.ports import SpawnError
from supervisor_app.core.shortage import LateError, ShortageError
from supervisor_app.core.sightings import Cause, Identity, PortHolder
from supervisor_app.core.status import Failure, FailureKind

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from supervisor_app.core.devices import Survey
    from supervisor_app.core.spec import LaunchSpec

SPAWN_SECONDS = 10.0
"""Time limit of a start: the folder or the program may be on a disk that hangs."""
READING_SECONDS = 600.0
"""Time limit of reading a model ahead; the room for which it waits is there long before."""
SURVEY_SECONDS = 2 * PATIENCE
"""Time limit of a look at the devices, which itself waits no longer than its patience."""


class LocalProcesses:
    """`core.ports.Processes` on this machine.

    `recognise` asks the process that listens on a port whether it is a llama-server. `no_engine` is said of a
    server that cannot start because no llama-server was found: how to get one.
    """

    def __init__(
        self,
        *,
        log_dir: Path,
        recognise: Recognise = looks_like_llama_server,
        no_engine: str = "No llama-server was found.",
    ) -> None:
        self._log_dir = log_dir
        self._recognise = recognise
        self._no_engine = no_engine
        self._gpu = GpuMeter()
        self._surveyor: Surveyor | None = None
        self._survey_lane = Lane("devices", width=1)
        self._surveying = asyncio.Lock()
        self._reading_lane = Lane("a disk that is read ahead", width=2)
        self._lanes: defaultdict[str, Lanes] = defaultdict(Lanes)
        """Threads by name of a server."""
        self._held: dict[str, OpenLog] = {}
        """Open logs of the newest processes, by server."""

    def log_file(self, name: str, spec: LaunchSpec | None = None) -> LogFile:
        return server_log(self._log_dir, name, (spec.api_key, *secrets_of(spec.args)) if spec else ())

    def open_log(self, name: str) -> OpenLog | None:
        """The log that the newest process of a server writes to; None: there is none."""
        return self._held.get(name)

    async def port_holder(self, name: str, spec: LaunchSpec) -> PortHolder | None:
        return await self._lanes[name].looks.run(self._port_holder, name, spec)

    def _port_holder(self, name: str, spec: LaunchSpec) -> PortHolder | None:
        log, found = self.log_file(name), in_the_way(spec)
        holders = [
            holder
            for each in found
            if (holder := holder_of(each, spec, self._recognise, log.is_written_by)) is not None
        ]
        usable = [holder for holder in holders if holder.is_llama_server]
        if usable:
            return self._with_its_server(usable[0])
        if is_blocked(spec, found):
            return holders[0] if holders else None
        # Nobody is seen there, and yet somebody answers (macOS hides the sockets of others).
        if not found and answers(spec):
            return seen_process(None, is_llama=False)
        why = why_not_bindable(spec)
        return PortHolder(identity=None, command="", is_llama_server=False, problem=why) if why else None

    def _with_its_server(self, holder: PortHolder) -> PortHolder:
        """Name the server for which a process was spawned, if that is another one."""
        if holder.ours or holder.identity is None:
            return holder
        return replace(holder, server=server_of(holder.identity.pid, self._log_dir))

    async def find(self, name: str, identity: Identity, spec: LaunchSpec) -> PortHolder | None:
        return await self._lanes[name].looks.run(self._find, name, identity, spec)

    def _find(self, name: str, identity: Identity, spec: LaunchSpec) -> PortHolder | None:
        if identity_of(identity.pid) != identity:
            return None
        known = is_trusted(uid_of(identity.pid), spec) or self.log_file(name).is_written_by(identity.pid)
        holder = seen_process(identity.pid, is_llama=True) if known else None
        # Once more: between the two looks it may have gone and its pid been given away.
        return holder if holder is not None and holder.identity == identity else None

    async def find_ours(self, name: str, but: Identity | None = None) -> PortHolder | None:
        return await self._lanes[name].looks.run(find_server, self.log_file(name), but)

    async def end_rest(self, name: str, only: Identity | None = None) -> None:
        await self._lanes[name].looks.run(end_writers, self.log_file(name), only)

    async def spawn(self, name: str, spec: LaunchSpec) -> LocalProcess:
        lanes, log = self._lanes[name], self.log_file(name, spec)
        try:
            born = await lanes.starts.run(
                spawn_child, spec, log, self._no_engine, patience=SPAWN_SECONDS, undo=unspawn
            )
        except LateError as error:
            slow = f"{spec.command[0]} was not loaded within {span(SPAWN_SECONDS)}: does its disk answer?"
            raise SpawnError(failure_of(FailureKind.UNKNOWN, slow)) from error
        return LocalProcess(
            identity=born.identity,
            started_at=time.time(),
            child=born.child,
            log=await self._hold(name, log),
            log_start=born.log_start,
            meter=await self._meter(lanes, born.identity),
            lanes=lanes,
        )

    async def _meter(self, lanes: Lanes, identity: Identity | None) -> MemoryMeter | None:
        """Meter of the process's memory; None where that cannot be seen: no reason to detach a process."""
        if identity is None:
            return None
        with contextlib.suppress(ShortageError, OSError):
            return await lanes.looks.run(MemoryMeter, identity.pid, self._gpu)
        return None

    async def adopt(self, name: str, holder: PortHolder, spec: LaunchSpec) -> LocalProcess:
        lanes, log = self._lanes[name], self.log_file(name, spec)
        writes_here = await lanes.looks.run(_recognise, holder.identity, log)
        return LocalProcess(
            identity=holder.identity,
            started_at=holder.started_at or time.time(),
            log=await self._hold(name, log, holder.identity) if writes_here else None,
            meter=await self._meter(lanes, holder.identity),
            held=holder.endpoint,
            lanes=lanes,
        )

    async def cause_of(self, name: str, failure: Failure, spec: LaunchSpec) -> Cause | None:
        return await self._lanes[name].disk.run(cause_of, failure, spec)

    async def bad_files(self, name: str, spec: LaunchSpec) -> list[BadFile]:
        return await self._lanes[name].disk.run(bad_files, spec)

    async def model_bytes(self, name: str, spec: LaunchSpec) -> int:
        file = spec.model_file
        return 0 if file is None else await self._lanes[name].disk.run(files_size, file)

    async def read_ahead(self, spec: LaunchSpec, most: int) -> None:
        stopped = Event()
        with contextlib.ExitStack() as stack:
            stack.callback(stopped.set)
            await self._reading_lane.run(read_ahead, spec, most, stopped.is_set, patience=READING_SECONDS)

    async def devices(self, pids: Collection[int]) -> Survey:
        if self._surveyor is None:
            self._surveyor = this_machine()
        async with self._surveying:  # one after the other: whoever sees no device takes none for full
            return await self._survey_lane.run(self._surveyor.survey, pids, patience=SURVEY_SECONDS)

    def log_is_large(self, name: str) -> bool:
        return self._newest_log(name).is_large

    async def trim_log(self, name: str) -> bool:
        return await self._lanes[name].disk.run(self._newest_log(name).rotate_if_large)

    def _newest_log(self, name: str) -> LogFile | OpenLog:
        held = self.open_log(name)
        return self.log_file(name) if held is None or held.is_closed else held

    async def _hold(self, name: str, log: LogFile, writer: Identity | None = None) -> OpenLog | None:
        """Keep a log open, wherever its file goes. None when that fails: no reason to detach a process.

        `writer`: a process that writes to this log, or to the file that once was this log.
        """
        held = None
        with contextlib.suppress(ShortageError, OSError):
            held = await self._lanes[name].disk.run(OpenLog.of, log, writer.pid if writer else None)
        if held is not None:
            self._held[name] = held
        return held


def server_log(log_dir: Path, name: str, secrets: Sequence[str] = ()) -> LogFile:
    """The file of a server's output, with the secrets that must not be shown of it."""
    return LogFile(path=log_dir / f"{name}.log", secrets=tuple(secret for secret in secrets if secret))


def _recognise(identity: Identity | None, log: LogFile) -> bool:
    """Is this still the process, and does it write to this log? Raises ProcessLookupError."""
    if identity is not None and identity_of(identity.pid) != identity:
        raise ProcessLookupError(identity.pid)
    return identity is not None and log.is_written_by(identity.pid)
