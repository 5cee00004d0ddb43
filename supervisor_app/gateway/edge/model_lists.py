"""Reads what servers say of their models: once of each process, of a router again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from supervisor_app.common.storage import StoreError
from supervisor_app.common.words import MISTAKE
from supervisor_app.gateway.llama.listing import Listing, listing_of, read_json
from supervisor_app.gateway.servers.facts import ServerFacts
from supervisor_app.gateway.servers.fetch import UNUSABLE, FetchError, RefusedError, fetch

if TYPE_CHECKING:
    from supervisor_app.gateway.plane.gateway import Gateway
    from supervisor_app.gateway.servers.backend import Backend

log = logging.getLogger(__name__)

PATH = "/v1/models"
RELOAD_PATH = "/v1/models?reload=1"
AGAIN_SECONDS = 10.0
"""Pause between two looks at a router."""
SOON_SECONDS = 1.0
"""The same while it loads a model."""
LEAST_SECONDS = 0.2
"""Pause between two questions to a process, whoever wants to know."""
PATIENCE_SECONDS = 3.0
"""The time that somebody waits for what a router says: then what is known will do."""
TICK = 0.001
"""Seconds."""
FOR_EVER = float("inf")
Keep = Callable[[ServerFacts, Listing], Awaitable[None]]


class ModelLists:
    """The models of servers. Simultaneous askers share a question; answers outlive the server's process."""

    def __init__(self, gateway: Gateway, keep: Keep) -> None:
        """`keep`: writes one down. Raises StoreError: then it is tried again when it is read again."""
        self._gateway = gateway
        self._keep = keep
        self._asked: WeakKeyDictionary[Backend, tuple[int | None, float]] = WeakKeyDictionary()
        """The process of each server that was asked last, and when (loop time)."""
        self._unkept: WeakKeyDictionary[Backend, Listing] = WeakKeyDictionary()
        self._turns: WeakKeyDictionary[Backend, asyncio.Lock] = WeakKeyDictionary()
        self._about_to_ask: dict[tuple[Backend, bool], asyncio.Task[None]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        """Questions that are being asked, or wait for their turn."""

    def look(self, backend: Backend) -> None:
        """Ask a server for its models, if it is time to. Called often."""
        facts = backend.facts
        if not facts.ready:
            return
        wait = SOON_SECONDS if facts.listing.is_changing else AGAIN_SECONDS
        is_due = facts.is_router and self._age(backend) >= wait
        if is_due or self._age(backend) == FOR_EVER or backend in self._unkept:
            self._ask_soon(backend)

    async def read_again(self, *, now: bool = False, reload: bool = False) -> None:
        """Ask all routers that can be asked, unless they just were.

        `now`: also then, for something may have changed since; `reload`: they are to look for new models
        first.
        """
        due = [each for each in self._routers() if now or reload or self._age(each) >= LEAST_SECONDS]
        if due:
            await asyncio.wait([self._ask_soon(each, reload) for each in due], timeout=PATIENCE_SECONDS)

    def forget(self, server: str) -> None:
        """Read the list of a router anew, because something has changed there."""
        backend = self._gateway.backends.get(server)
        if backend is not None and backend.facts.ready and backend.facts.is_router:
            self._ask_soon(backend)

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()

    def _routers(self) -> Iterable[Backend]:
        return (each for each in self._gateway.all if each.facts.is_router and each.facts.ready)

    def _age(self, backend: Backend) -> float:
        """Seconds since this process was asked last."""
        pid, at = self._asked.get(backend, (None, -FOR_EVER))
        return self._gateway.loop.time() - at if pid == backend.facts.pid else FOR_EVER

    def _ask_soon(self, backend: Backend, reload: bool = False) -> asyncio.Task[None]:
        """Join whoever is about to ask, but not one who has asked already."""
        task = self._about_to_ask.get((backend, reload))
        if task is None:
            task = asyncio.create_task(self._ask_in_turn(backend, reload))
            self._about_to_ask[backend, reload] = task
            self.tasks.add(task)
            task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("❌ [GATEWAY] %s.", MISTAKE, exc_info=error)

    async def _ask_in_turn(self, backend: Backend, reload: bool) -> None:
        async with self._turns.setdefault(backend, asyncio.Lock()):
            await asyncio.sleep(LEAST_SECONDS - self._age(backend))
            del self._about_to_ask[backend, reload]
            self._asked[backend] = (backend.facts.pid, self._gateway.loop.time())
            await self._ask(backend, reload)

    async def _ask(self, backend: Backend, reload: bool) -> None:
        asked = backend.facts
        try:
            told = await fetch(backend, RELOAD_PATH if reload else PATH)
            listing = listing_of(read_json(told), self._gateway.wall_time())
        except (RefusedError, *UNUSABLE) as error:
            log.debug("%s does not say what models it has: %s", asked.name, error)
        except FetchError:
            self._asked.pop(backend, None)  # the next look asks again
        else:
            facts = backend.facts
            if facts.pid == asked.pid and facts.launch == asked.launch and not backend.is_gone:
                await self._learn(backend, listing)

    async def _learn(self, backend: Backend, listing: Listing) -> None:
        facts = backend.facts
        before = facts.listing
        is_news = not (before.read_at and before.says_the_same(listing))
        if is_news:
            # Newer than the last one by any clock: another host's gateway may have read that.
            listing = replace(listing, read_at=max(listing.read_at, before.read_at + TICK))
            self._gateway.hear(facts.with_listing(listing))
        if is_news or backend in self._unkept:
            self._unkept[backend] = listing
            with suppress(StoreError):
                await self._keep(facts, listing)
                self._unkept.pop(backend, None)
