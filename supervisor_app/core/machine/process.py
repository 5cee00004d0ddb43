"""A process of this machine: its death, its port, its memory, its last lines.

Death is seen through a pidfd (Linux): the kernel wakes the event loop, nothing polls. Elsewhere each child
has a thread that waits for it, and an adopted process is looked at every 250 ms. So is any process while
we have no descriptor or thread to spare.

A look that fails for want of our own raises ShortageError: it says nothing about the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from supervisor_app.core.machine import sock_diag
from supervisor_app.core.machine.family import resident_bytes, usage_of, written_bytes
from supervisor_app.core.machine.identity import identity_of
from supervisor_app.core.machine.lanes import Lanes
from supervisor_app.core.machine.listeners import endpoint_of, in_the_way
from supervisor_app.core.machine.mappings import mapped_bytes
from supervisor_app.core.machine.ownership import own_endpoint
from supervisor_app.core.machine.sockets import is_surely_free
from supervisor_app.core.ports import SignalDeniedError
from supervisor_app.core.shortage import ShortageError, raise_shortage, shortage_of
from supervisor_app.core.sightings import Autopsy, Endpoint, Exit, Identity, MemorySample, ProcessUsage

if TYPE_CHECKING:
    from supervisor_app.core.machine.children import Child
    from supervisor_app.core.machine.memory import MemoryMeter
    from supervisor_app.core.machine.open_log import OpenLog
    from supervisor_app.core.spec import LaunchSpec

POLL_SECONDS = 0.25
_let_go: list[Child] = []
"""Children that were let go: each is reaped at its end, so that none stays a zombie."""


class LocalProcess:
    """`core.ports.Process` on this machine. Made inside the event loop that watches it."""

    def __init__(
        self,
        *,
        identity: Identity | None,
        started_at: float,
        child: Child | None = None,
        log: OpenLog | None = None,
        log_start: int = 0,
        meter: MemoryMeter | None = None,
        held: Endpoint | None = None,
        lanes: Lanes | None = None,
    ) -> None:
        """`held`: where it listened when it was found. `lanes`: the threads of its server."""
        self.identity = identity
        self.started_at = started_at
        self._child = child
        self._log = log
        self._log_start = log_start
        self._meter = meter
        self._held = held
        self._lanes = lanes or Lanes()
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[Exit] = self._loop.create_future()
        self._poller: asyncio.Task[None] | None = None
        self._pidfd: int | None = None
        self._forgotten = False
        if identity is not None:
            self._watch(identity.pid)

    # Watching

    def _watch(self, pid: int) -> None:
        try:
            self._watch_pidfd(os.pidfd_open(pid))
        except ProcessLookupError:
            self.note_end()
        except (AttributeError, OSError) as error:
            # Not Linux, a sandbox that forbids it, or no descriptor left.
            if shortage_of(error) or self._child is None or not self._wait_in_thread(pid):
                self._poller = self._loop.create_task(self._poll(pid), name=f"poll-{pid}")

    def _watch_pidfd(self, pidfd: int) -> None:
        self._pidfd = pidfd
        self._loop.add_reader(pidfd, self._pidfd_readable)

    def _pidfd_readable(self) -> None:
        self._close_pidfd()
        self.note_end()

    def _close_pidfd(self) -> None:
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)

    def _wait_in_thread(self, pid: int) -> bool:
        """Wait for the child in a daemon thread of its own. False: no thread is to be had."""

        def wait() -> None:
            with contextlib.suppress(ChildProcessError):  # let go, and reaped
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self._loop.call_soon_threadsafe(self.note_end)

        try:
            Thread(target=wait, name=f"wait-{pid}", daemon=True).start()
        except RuntimeError:
            return False
        return True

    async def _poll(self, pid: int) -> None:
        """Look every 250 ms, until the process is gone or can be watched."""
        while not self._looks_ended(pid):
            await asyncio.sleep(POLL_SECONDS)
            if self._watches_at_last(pid):
                return
        self.note_end()

    def _watches_at_last(self, pid: int) -> bool:
        try:
            self._watch_pidfd(os.pidfd_open(pid))
        except (AttributeError, OSError):
            return False
        if self._looks_ended(pid):
            # The descriptor may be that of a process that has got the pid since.
            self._close_pidfd()
            return False
        return True

    def _looks_ended(self, pid: int) -> bool:
        """Has the process ended? For a process that is no child this takes a descriptor; without one: no."""
        if self._child is not None:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        try:
            return not self._alive()
        except ShortageError:
            return False

    def note_end(self) -> None:
        if self.has_ended or self._forgotten:
            return
        if self._child is None:
            self._exit.set_result(Exit())
            return
        # Before reaping: the zombie still holds its pid, so the group cannot be anybody else's. The
        # rest of the group would keep the port and the GPU memory.
        with contextlib.suppress(OSError):
            os.killpg(self._child.pid, signal.SIGKILL)
        code = self._child.wait()
        self._exit.set_result(Exit(signal=-code) if code < 0 else Exit(code=code))

    def has_clients(self, endpoint: Endpoint) -> bool:
        return sock_diag.has_clients(endpoint.port)

    def leaves_nothing(self) -> bool:
        if self._child is None or not self.has_ended:
            return False
        try:
            os.killpg(self._child.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

    def _alive(self) -> bool:
        return self.identity is not None and identity_of(self.identity.pid) == self.identity

    # The port

    @property
    def has_ended(self) -> bool:
        """Has its end been seen?"""
        return self._exit.done()

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exit)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.has_ended:
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

    async def endpoint(self, spec: LaunchSpec) -> Endpoint | None:
        if is_surely_free(spec.port):
            return None
        return await self._lanes.looks.run(self._endpoint, spec)

    def _endpoint(self, spec: LaunchSpec) -> Endpoint | None:
        found = in_the_way(spec)
        if self.identity is None:  # known by its socket alone
            return next((self._held for each in found if endpoint_of(each) == self._held), None)
        log = None if self._log is None else self._log.log
        return own_endpoint(found, spec, self.identity, log)

    async def means_file(self, path: str, file: Path) -> bool:
        return await self._lanes.looks.run(
            _means_file, self.identity.pid if self.identity else None, path, file
        )

    async def usage(self, spec: LaunchSpec) -> ProcessUsage:
        if self.identity is None:
            return ProcessUsage()
        return await self._lanes.looks.run(usage_of, self.identity.pid, spec.port)

    async def look(self, spec: LaunchSpec) -> tuple[ProcessUsage, MemorySample | None]:
        if self.identity is None or self._meter is None:
            return await self.usage(spec), await self.sample()
        return await self._lanes.looks.run(_look, self.identity.pid, spec.port, self._meter)

    async def sample(self) -> MemorySample | None:
        return None if self._meter is None else await self._lanes.looks.run(self._meter.sample)

    async def autopsy(self) -> Autopsy:
        return Autopsy() if self._meter is None else await self._lanes.looks.run(self._meter.autopsy)

    async def resident_bytes(self) -> int:
        return 0 if self.identity is None else await self._lanes.looks.run(resident_bytes, self.identity.pid)

    async def mapped_bytes(self) -> int:
        return 0 if self.identity is None else await self._lanes.looks.run(mapped_bytes, self.identity.pid)

    async def fetched(self) -> int:
        if self.identity is None:
            return 0
        log = None if self._log is None else self._log.log.path
        return await self._lanes.looks.run(written_bytes, self.identity.pid, log)

    async def last_lines(self, count: int, since: int | None = None) -> list[str]:
        if self._log is None:
            return []
        return await self._lanes.disk.run(self._log.tail, count, self._log_start if since is None else since)

    async def log_position(self) -> int:
        return 0 if self._log is None else self._log.position

    async def log_trouble(self) -> str:
        return "" if self._log is None else await self._lanes.disk.run(lambda log: log.trouble, self._log)

    def forget(self) -> None:
        """Stop watching; the process lives on, and its end is not seen any more."""
        self._forgotten = True
        self._close_pidfd()
        if self._child is not None and not self._exit.done():
            _let_go.append(self._child)
            with contextlib.suppress(RuntimeError):  # no thread to spare: with the next one that is let go
                Thread(target=self._child.wait, name=f"reap-{self._child.pid}", daemon=True).start()
        _let_go[:] = [child for child in _let_go if child.poll() is None]
        if self._poller is not None:
            self._poller.cancel()
        if self._meter is not None:
            self._meter.close()
        if self._log is not None:
            self._log.close()


def _look(pid: int, port: int, meter: MemoryMeter) -> tuple[ProcessUsage, MemorySample | None]:
    return usage_of(pid, port), meter.sample()


def _means_file(pid: int | None, path: str, file: Path) -> bool:
    try:
        start = "/" if os.path.isabs(path) else os.readlink(f"/proc/{pid}/cwd")
    except OSError as error:  # where it was started cannot be seen
        raise_shortage(error)
        return Path(path).name == file.name
    return os.path.realpath(os.path.join(start, path)) == os.path.realpath(file)
