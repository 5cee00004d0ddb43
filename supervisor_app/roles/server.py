"""Daphne with the supervisor beside it: the one-process shape.

Twisted owns the main thread, its loop and the signals; pages and gateway are there. The supervisor has a loop
in a thread of its own: whatever strangers make the other one do, it waits for the interpreter and no longer.
The order of the end: servers stop and every page is told, then the sockets close, then the loop ends.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from typing import TYPE_CHECKING, Any

import daphne.server  # noqa: F401  before Twisted's reactor, which it puts on asyncio
from daphne.endpoints import build_endpoint_description_strings
from twisted.internet import defer, reactor

from supervisor_app.common.loops import SWITCH_SECONDS, LoopThread
from supervisor_app.common.signals import ignore_signals, on_ends, on_hangups
from supervisor_app.core.ports import NodeTakenError
from supervisor_app.web.guarded import GuardedServer, install

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.roles.runtime import Runtime
    from supervisor_app.web.limits import WebLimits

log = logging.getLogger(__name__)

FULL_COLLECTION = 200
"""Collections of younger garbage to a full one, which holds every thread: with 1500 sockets, for 100 ms.
Python's 10 let a flood of connections bring that about every few seconds.
"""

install()


class SupervisedServer(GuardedServer):
    """`make_runtime` is called in supervision's loop; `failed` tells whether it ended by itself."""

    def __init__(
        self,
        *,
        application: Any,
        host: str,
        port: int,
        limits: WebLimits,
        make_runtime: Callable[[asyncio.AbstractEventLoop], Runtime],
        on_listening: Callable[[], None],
    ) -> None:
        super().__init__(
            limits=limits,
            application=application,
            endpoints=build_endpoint_description_strings(host=host, port=port),
            signal_handlers=True,
            # 24 h by default, after which a page left open goes silent.
            websocket_timeout=-1,
            server_name="llamaproxy",
            verbosity=0,
        )
        self.failed: BaseException | None = None
        self._make_runtime = make_runtime
        self._on_listening = on_listening
        self._runtime: Runtime | None = None
        self._supervision: LoopThread | None = None
        self._is_hung_up = False

    def run(self) -> None:
        """Run until a signal, a port that cannot be had (`abort_start`) or a failure of supervision."""
        reactor.callWhenRunning(self._start_supervision)
        super().run()
        self._close_loop()

    def listen_success(self, port: Any) -> None:
        """Tell the address: only now is there something to see at it."""
        super().listen_success(port)
        self._on_listening()

    def _start_supervision(self) -> None:
        if self.abort_start:
            return
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION)
        loop = asyncio.get_event_loop()

        async def supervise() -> None:
            self._runtime = self._make_runtime(loop)
            await self._runtime.run()

        self._supervision = supervision = LoopThread(supervise, name="supervision")
        asyncio.wrap_future(supervision.ended).add_done_callback(
            lambda _: self._supervision_done(supervision.failed)
        )
        supervision.start()
        loop.add_signal_handler(signal.SIGUSR1, self._leave)
        on_hangups(loop, self._hang_up)

    def _hang_up(self) -> None:
        """The terminal closed: end as with SIGTERM. Said again, it asks for no more haste."""
        if not self._is_hung_up:
            self._is_hung_up = True
            self.stop()

    def _leave(self) -> None:
        """SIGUSR1: end, and leave the servers running: a planned upgrade."""
        if self._runtime is not None:
            self._runtime.keep_servers = True
        self.stop()

    def _supervision_done(self, failed: BaseException | None) -> None:
        if failed is not None:
            self.failed = failed
            if not isinstance(failed, NodeTakenError):  # that was told
                log.critical("❌ [SUPERVISOR] It failed: the servers go on without it", exc_info=failed)
            self.stop()

    def kill_all_applications(self) -> Any:
        """Daphne's own step before the end. Ours comes first, or nobody would see "stopping"."""
        log.info("👋 Stopping; press Ctrl+C again to force")
        loop = asyncio.get_event_loop()
        on_ends(loop, self._force, since=loop.time())
        if self._supervision is None:
            return self._kill_consumers()
        self._supervision.cancel()
        stopped = defer.Deferred.fromFuture(asyncio.wrap_future(self._supervision.ended))
        return stopped.addBoth(lambda _: self._kill_consumers())

    def _force(self) -> None:
        log.warning("⚠️ Asked again: ending at once")
        if self._supervision is not None and self._runtime is not None:
            self._supervision.call(self._runtime.force)

    def _kill_consumers(self) -> Any:
        # An upgraded request lacks its application until Daphne's next look; Daphne trips over that and the
        # interpreter then crashes at exit.
        self.connections: dict[Any, dict[str, Any]] = {
            protocol: details
            for protocol, details in self.connections.items()
            if "application_instance" in details
        }
        return super().kill_all_applications()

    @staticmethod
    def _close_loop() -> None:
        """Close the loop: what is still pending must not meet a half-dismantled interpreter."""
        loop = asyncio.get_event_loop()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_default_executor())
        ignore_signals(loop)
        loop.close()
