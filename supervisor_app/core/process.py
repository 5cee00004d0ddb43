"""Processes of this machine: who holds a port, spawn, adopt, watch, signal.

A child gets its own session and its output goes to a file, so it outlives us. Death is seen through a pidfd
(Linux): the kernel wakes the event loop, nothing polls. Elsewhere a thread waits for a child, and an adopted
process is looked at every 250 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import psutil

from supervisor_app.core.diagnosis import failure_of
from supervisor_app.core.logs import LogFile
from supervisor_app.core.ports import Cause, Exit, Identity, PortHolder, SignalDeniedError, SpawnError
from supervisor_app.core.probe import files_size, looks_like_llama_server
from supervisor_app.core.spec import LaunchSpec
from supervisor_app.core.status import Failure, FailureKind
from supervisor_app.engine.resolve import HOW_TO_GET_ONE

POLL_SECONDS = 0.25
WILDCARDS = {"0.0.0.0", "::"}  # noqa: S104
OUR_SECRETS = ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE")


# --- Identity ------------------------------------------------------------------------------------------


def boot_id() -> str:
    """Changes with every boot, so that a pid of yesterday is never taken for one of today."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(int(psutil.boot_time()))


def identity_of(pid: int) -> Identity | None:
    """None when there is no such process, or only its zombie."""
    try:
        if Path("/proc/self/stat").exists():
            # Ticks since boot. psutil's create_time moves with the wall clock.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return None if fields[0] in "ZX" else Identity(pid=pid, start=int(fields[19]), boot_id=boot_id())
        return Identity(pid=pid, start=int(psutil.Process(pid).create_time() * 100), boot_id=boot_id())
    except (OSError, psutil.Error):
        return None


def _command_line(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


def is_llama_command(argv: list[str]) -> bool:
    """By name: llama-server itself, an interpreter or loader that runs one, or the bundled launcher."""
    return any(
        Path(word).name.startswith("llama-server") or word.endswith("engine/launcher.py") for word in argv[:4]
    )


# --- Ports ---------------------------------------------------------------------------------------------


def _addresses(host: str) -> set[str]:
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host or "0.0.0.0", None)}  # noqa: S104
    except OSError:
        return set()


def _listening_pids(spec: LaunchSpec) -> list[int | None]:
    """Of all sockets that listen where the spec wants to; None for one whose process we may not see."""
    wanted = _addresses(spec.host)
    pids: list[int | None] = []
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:  # macOS, not root: the connection attempt below decides
        return pids
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        if connection.laddr.port != spec.port:
            continue
        address = connection.laddr.ip.removeprefix("::ffff:")
        if address in wanted or address in WILDCARDS or wanted & WILDCARDS:
            pids.append(connection.pid)
    return pids


def _answers(spec: LaunchSpec) -> bool:
    try:
        with socket.create_connection((spec.probe_host, spec.port), timeout=1):
            return True
    except OSError:
        return False


def _holder(pid: int | None, is_llama: Callable[[list[str]], bool]) -> PortHolder | None:
    identity = None if pid is None else identity_of(pid)
    if pid is not None and identity is None:
        return None  # it has just gone
    if identity is None:
        return PortHolder(identity=None, command="", is_llama_server=is_llama([]))
    argv = _command_line(identity.pid)
    try:
        started_at = psutil.Process(identity.pid).create_time()
    except psutil.Error:
        started_at = None
    command = " ".join(argv)[:200] or "unknown command"
    return PortHolder(
        identity=identity, command=command, is_llama_server=is_llama(argv), started_at=started_at
    )


# --- One process ---------------------------------------------------------------------------------------


class LocalProcess:
    """`core.ports.Process` on this machine. Made inside the event loop that watches it."""

    def __init__(
        self,
        *,
        identity: Identity | None,
        started_at: float,
        child: subprocess.Popen[bytes] | None = None,
        log: LogFile | None = None,
        log_start: int = 0,
    ) -> None:
        self.identity = identity
        self.started_at = started_at
        self._child = child
        self._log = log
        self._log_start = log_start
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[Exit] = self._loop.create_future()
        self._poller: asyncio.Task[None] | None = None
        if identity is not None:
            self._watch(identity.pid)

    # Watching

    def _watch(self, pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._gone()
        except (AttributeError, OSError):  # not Linux, or a sandbox that forbids it
            if self._child is None:
                self._poller = self._loop.create_task(self._poll(), name=f"poll-{pid}")
            else:
                waiting = self._loop.run_in_executor(None, self._wait_without_reaping, pid)
                waiting.add_done_callback(lambda _: self._gone())
        else:
            self._loop.add_reader(pidfd, self._pidfd_readable, pidfd)

    def _pidfd_readable(self, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        self._gone()

    @staticmethod
    def _wait_without_reaping(pid: int) -> None:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    async def _poll(self) -> None:
        # No event tells of the end of a process that is not our child.
        while self._alive():  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        self._gone()

    def _gone(self) -> None:
        if self._exit.done():
            return
        if self._child is None:
            self._exit.set_result(Exit())
            return
        # Before reaping: the zombie still holds its pid, so the group cannot be anybody else's. What it
        # left behind would keep the port and the GPU memory.
        with contextlib.suppress(OSError):
            os.killpg(self._child.pid, signal.SIGKILL)
        code = self._child.wait()
        self._exit.set_result(Exit(signal=-code) if code < 0 else Exit(code=code))

    def _alive(self) -> bool:
        return self.identity is not None and identity_of(self.identity.pid) == self.identity

    # The port

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exit)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._exit.done():
            return
        if self.identity is None:
            raise SignalDeniedError
        # A child that has not been reaped keeps its pid; anybody else's is compared once more.
        if self._child is None and not self._alive():
            return
        pid = self.identity.pid
        try:
            if os.getpgid(pid) == pid:
                os.killpg(pid, number)
            else:
                os.kill(pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise SignalDeniedError from error

    async def owns_port(self, spec: LaunchSpec) -> bool:
        return self.identity is None or await asyncio.to_thread(self._owns_port, self.identity.pid, spec.port)

    @staticmethod
    def _owns_port(pid: int, port: int) -> bool:
        for process in _family(pid):
            with contextlib.suppress(psutil.Error):
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                        return True
        return False

    async def resident_bytes(self) -> int:
        return 0 if self.identity is None else await asyncio.to_thread(_resident_bytes, self.identity.pid)

    async def last_lines(self, count: int) -> list[str]:
        if self._log is None:
            return []
        return await asyncio.to_thread(self._log.tail, count, self._log_start)

    def forget(self) -> None:
        """Stop watching; the process lives on."""
        if self._poller is not None:
            self._poller.cancel()


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _resident_bytes(pid: int) -> int:
    total = 0
    for process in _family(pid):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


# --- All of them ---------------------------------------------------------------------------------------


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

    def log_file(self, name: str) -> LogFile:
        return LogFile(path=self._log_dir / f"{name}.log")

    async def port_holder(self, spec: LaunchSpec) -> PortHolder | None:
        return await asyncio.to_thread(self._port_holder, spec)

    def _port_holder(self, spec: LaunchSpec) -> PortHolder | None:
        def is_llama(argv: list[str]) -> bool:
            return is_llama_command(argv) or self._recognise(spec)

        for pid in _listening_pids(spec):
            holder = _holder(pid, is_llama)
            if holder is not None:
                return holder
        return _holder(None, is_llama) if _answers(spec) else None

    async def find(self, identity: Identity, spec: LaunchSpec) -> PortHolder | None:
        del spec
        if identity_of(identity.pid) != identity:
            return None
        holder = await asyncio.to_thread(_holder, identity.pid, is_llama_command)
        # Once more: between the two looks it may have gone and its pid been given away.
        return holder if holder is not None and holder.identity == identity else None

    async def spawn(self, name: str, spec: LaunchSpec) -> LocalProcess:
        log = self.log_file(name)
        child, log_start = await asyncio.to_thread(_spawn, spec, log)
        return LocalProcess(
            identity=identity_of(child.pid) or Identity(pid=child.pid, start=0, boot_id=boot_id()),
            started_at=time.time(),
            child=child,
            log=log,
            log_start=log_start,
        )

    async def adopt(self, name: str, holder: PortHolder) -> LocalProcess:
        if holder.identity is not None and identity_of(holder.identity.pid) != holder.identity:
            raise ProcessLookupError(holder.identity.pid)
        log = self.log_file(name)
        return LocalProcess(
            identity=holder.identity,
            started_at=holder.started_at or time.time(),
            log=log if await asyncio.to_thread(_writes_to, holder.identity, log) else None,
        )

    async def cause_of(self, failure: Failure, spec: LaunchSpec) -> Cause | None:
        return await asyncio.to_thread(self._cause_of, failure.kind, spec)

    def _cause_of(self, kind: FailureKind, spec: LaunchSpec) -> Cause | None:
        binary = Path(spec.cwd, spec.command[0]) if spec.command else None
        match kind:
            case FailureKind.PORT_TAKEN:
                held = tuple(_listening_pids(spec)) or _answers(spec)
                return Cause(present=bool(held), mark=held)
            case FailureKind.MODEL_MISSING if spec.model_file:
                return _missing(spec.model_file)
            case FailureKind.BINARY_MISSING if binary:
                return _missing(binary)
            case FailureKind.MODEL_UNREADABLE | FailureKind.MODEL_CORRUPT | FailureKind.MODEL_UNSUPPORTED if (
                spec.model_file
            ):
                return Cause(present=True, mark=_fingerprint(spec.model_file))
            case FailureKind.LIBRARY_MISSING if binary:
                return Cause(present=True, mark=_fingerprint(binary))
            case _:
                return None

    async def model_bytes(self, spec: LaunchSpec) -> int:
        return 0 if spec.model_file is None else await asyncio.to_thread(files_size, spec.model_file)

    async def trim_log(self, name: str) -> None:
        await asyncio.to_thread(self.log_file(name).rotate_if_large)


def _missing(path: Path) -> Cause:
    return Cause(present=not path.exists(), mark=_fingerprint(path))


def _fingerprint(path: Path) -> tuple[object, ...]:
    """Differs once the file appears, is replaced, written to, or may be read."""
    try:
        stat = path.stat()
    except OSError as error:
        return (error.errno,)
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_mode, os.access(path, os.R_OK))


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
        with log.open() as output:
            stamp = datetime.now(UTC).isoformat(timespec="seconds")
            output.write(f"--- {stamp} starting: {' '.join(spec.argv)}\n".encode())
            output.flush()
            log_start = log.size()
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
        detail = f"{error.filename or spec.command[0]}: {error.strerror}"
        missing = isinstance(error, FileNotFoundError | PermissionError) or error.errno == 8  # ENOEXEC
        kind = FailureKind.BINARY_MISSING if missing else FailureKind.UNKNOWN
        raise SpawnError(failure_of(kind, detail)) from error
    return child, log_start


def _writes_to(identity: Identity | None, log: LogFile) -> bool:
    """Is this process's stderr our file? Then its last lines are worth reading."""
    if identity is None:
        return False
    try:
        return os.path.samefile(f"/proc/{identity.pid}/fd/2", log.path)
    except OSError:
        return False
