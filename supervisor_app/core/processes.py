"""The processes of this machine: who holds a port, spawn, adopt.

A child gets its own session and its output goes to a file, so it outlives us.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import psutil

from supervisor_app.core.causes import cause_of
from supervisor_app.core.diagnosis import failure_of
from supervisor_app.core.identity import boot_id, identity_of, is_llama_command
from supervisor_app.core.listeners import answers, holder_of, listening_pids
from supervisor_app.core.logs import LogFile
from supervisor_app.core.memory import GpuMeter, MemoryMeter
from supervisor_app.core.named_files import BadFile, bad_files
from supervisor_app.core.ports import SpawnError
from supervisor_app.core.probe import files_size, looks_like_llama_server
from supervisor_app.core.process import LocalProcess
from supervisor_app.core.redact import redact_argv, secrets_of
from supervisor_app.core.sightings import Cause, Identity, PortHolder
from supervisor_app.core.spawn_failure import look_at_program, why_not_started
from supervisor_app.core.spec import LaunchSpec
from supervisor_app.core.status import Failure, FailureKind
from supervisor_app.engine.resolve import HOW_TO_GET_ONE

OUR_SECRETS = ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE")


class LocalProcesses:
    """`core.ports.Processes` on this machine.

    `recognise` decides whether whoever listens on a port is a llama-server that its command line does not
    show to be one.
    """

    def __init__(
        self, *, log_dir: Path, recognise: Callable[[LaunchSpec], bool] = looks_like_llama_server
    ) -> None:
        self._log_dir = log_dir
        self._recognise = recognise
        self._gpu = GpuMeter()

    def log_file(self, name: str, spec: LaunchSpec | None = None) -> LogFile:
        return server_log(self._log_dir, name, (spec.api_key, *secrets_of(spec.args)) if spec else ())

    async def port_holder(self, name: str, spec: LaunchSpec) -> PortHolder | None:
        return await asyncio.to_thread(self._port_holder, name, spec)

    def _port_holder(self, name: str, spec: LaunchSpec) -> PortHolder | None:
        def is_llama(argv: list[str]) -> bool:
            return is_llama_command(argv) or self._recognise(spec)

        for pid in listening_pids(spec):
            holder = holder_of(pid, is_llama)
            if holder is not None:
                return replace(holder, ours=_writes_to(holder.identity, self.log_file(name)))
        return holder_of(None, is_llama) if answers(spec) else None

    async def find(self, identity: Identity, spec: LaunchSpec) -> PortHolder | None:
        del spec
        if identity_of(identity.pid) != identity:
            return None
        holder = await asyncio.to_thread(holder_of, identity.pid, is_llama_command)
        # Once more: between the two looks it may have gone and its pid been given away.
        return holder if holder is not None and holder.identity == identity else None

    async def find_ours(self, name: str) -> PortHolder | None:
        return await asyncio.to_thread(_find_ours, self.log_file(name))

    async def end_rest(self, name: str) -> None:
        await asyncio.to_thread(_end_rest, self.log_file(name))

    async def spawn(self, name: str, spec: LaunchSpec) -> LocalProcess:
        log = self.log_file(name, spec)
        child, log_start = await asyncio.to_thread(_spawn, spec, log)
        return LocalProcess(
            identity=identity_of(child.pid) or Identity(pid=child.pid, start=0, boot_id=boot_id()),
            started_at=time.time(),
            child=child,
            log=log,
            log_start=log_start,
            meter=await asyncio.to_thread(MemoryMeter, child.pid, self._gpu),
        )

    async def adopt(self, name: str, holder: PortHolder, spec: LaunchSpec) -> LocalProcess:
        if holder.identity is not None and identity_of(holder.identity.pid) != holder.identity:
            raise ProcessLookupError(holder.identity.pid)
        log = self.log_file(name, spec)
        meter = None
        if holder.identity is not None:
            meter = await asyncio.to_thread(MemoryMeter, holder.identity.pid, self._gpu)
        return LocalProcess(
            identity=holder.identity,
            started_at=holder.started_at or time.time(),
            log=log if await asyncio.to_thread(_writes_to, holder.identity, log) else None,
            meter=meter,
        )

    async def cause_of(self, failure: Failure, spec: LaunchSpec) -> Cause | None:
        return await asyncio.to_thread(cause_of, failure, spec)

    async def bad_files(self, name: str, spec: LaunchSpec) -> list[BadFile]:
        del name
        return await asyncio.to_thread(bad_files, spec)

    async def model_bytes(self, spec: LaunchSpec) -> int:
        return 0 if spec.model_file is None else await asyncio.to_thread(files_size, spec.model_file)

    async def trim_log(self, name: str) -> bool:
        log = self.log_file(name)
        # One stat: a thread for it every second would cost more than the look.
        return log.is_large and await asyncio.to_thread(log.rotate_if_large)


def server_log(log_dir: Path, name: str, secrets: Sequence[str] = ()) -> LogFile:
    """Where a server's output goes, and what must not be shown of it."""
    return LogFile(path=log_dir / f"{name}.log", secrets=tuple(secret for secret in secrets if secret))


def child_environment(environ: Mapping[str, str], spec: LaunchSpec) -> dict[str, str]:
    """What the child sees: no LLAMA_ARG_* (each is a flag of its own) and none of our secrets."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("LLAMA_ARG_") and name != "LLAMA_API_KEY" and name not in OUR_SECRETS
    }
    return {**kept, "LLAMA_API_KEY": spec.api_key} if spec.api_key else kept


def _spawn(spec: LaunchSpec, log: LogFile) -> tuple[subprocess.Popen[bytes], int]:
    if not spec.command:
        raise SpawnError(failure_of(FailureKind.BINARY_MISSING, HOW_TO_GET_ONE))
    try:
        output = log.open()
    except OSError as error:
        closed = f"its log cannot be opened: {error.filename or log.path}: {error.strerror}"
        raise SpawnError(failure_of(FailureKind.UNKNOWN, closed)) from error
    with output:
        _mark_start(output, spec)
        log_start = log.size()
        try:
            child = subprocess.Popen(
                spec.argv,
                cwd=spec.cwd,
                env=child_environment(os.environ, spec),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            program = look_at_program(spec.command[0], Path(spec.cwd))
            raise SpawnError(why_not_started(error, program, Path(spec.cwd))) from error
    return child, log_start


def _mark_start(output: BinaryIO, spec: LaunchSpec) -> None:
    """Where in its log this life begins."""
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):  # a full disk is no reason not to start
        os.write(output.fileno(), f"--- {stamp} starting: {shlex.join(redact_argv(spec.argv))}\n".encode())


def _writers(log: LogFile) -> Iterator[psutil.Process]:
    """What was spawned for it, and its children: they inherit where they write to."""
    others = (process for process in psutil.process_iter() if process.pid != os.getpid())
    return (process for process in others if _stderr_is(process.pid, log))


def _find_ours(log: LogFile) -> PortHolder | None:
    """What we spawn leads a session, unlike its children."""
    for process in _writers(log):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == process.pid:
                return holder_of(process.pid, is_llama_command)
    return None


def _end_rest(log: LogFile) -> None:
    """It would keep the port and the GPU memory."""
    for process in _writers(log):
        with contextlib.suppress(psutil.Error):
            process.kill()  # never another that has got the pid since


def _writes_to(identity: Identity | None, log: LogFile) -> bool:
    """Then its last lines are worth reading."""
    return identity is not None and _stderr_is(identity.pid, log)


def _stderr_is(pid: int, log: LogFile) -> bool:
    try:
        return os.path.samefile(f"/proc/{pid}/fd/2", log.path)
    except OSError:
        return False
