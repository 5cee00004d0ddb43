"""Reads what servers say of their models: once of each process, of a router again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from weakref import WeakKeyDictionary

from supervisor_app.core.ports import StoreError
from supervisor_app.gateway.llama.listing import Listing, listing_of, read_json
from supervisor_app.gateway.plane.gateway import Gateway
from supervisor_app.gateway.servers.backend import Backend
from supervisor_app.gateway.servers.facts import ServerFacts
from supervisor_app.gateway.servers.fetch import UNUSABLE, FetchError, RefusedError, fetch

log = logging.getLogger(__name__)

PATH = "/v1/models"
RELOAD_PATH = "/v1/models?reload=1"
AGAIN_SECONDS = 10.0
"""Between two looks at a router."""
SOON_SECONDS = 1.0
"""The same while it loads a model; and what was read so long ago will do for whoever asks."""
PATIENCE_SECONDS = 3.0
"""Of somebody who waits for what a router says: then what is known will do."""
TICK = 0.001
"""Seconds."""
Keep = Callable[[ServerFacts, Listing], Awaitable[None]]


class ModelLists:
    """Several who want to know at the same time ask once. What a server said is kept, for when it is down."""

    def __init__(self, gateway: Gateway, keep: Keep) -> None:
        """`keep`: writes one down. Raises StoreError: then it is tried again when it is read again."""
        self._gateway = gateway
        self._keep = keep
        self._read: WeakKeyDictionary[Backend, tuple[int | None, float]] = WeakKeyDictionary()
        """Which process of each server was asked last, and when (loop time)."""
        self._unkept: WeakKeyDictionary[Backend, Listing] = WeakKeyDictionary()
        self._reading: dict[tuple[str, bool], asyncio.Task[None]] = {}

    def look(self, backend: Backend) -> None:
        """Often: it is asked when it is time to."""
        facts = backend.facts
        if not facts.ready:
            return
        pid, at = self._read.get(backend, (None, 0.0))
        wait = SOON_SECONDS if facts.listing.is_changing else AGAIN_SECONDS
        is_due = facts.is_router and self._gateway.loop.time() - at >= wait
        if backend not in self._read or pid != facts.pid or is_due or backend in self._unkept:
            self._begin(backend)

    async def read_again(self, *, reload: bool = False) -> None:
        """All routers that can be asked, unless they just were. `reload`: they are to look for new models."""
        due = [backend for backend in self._routers() if reload or self._is_old(backend)]
        if due:
            await asyncio.wait([self._begin(backend, reload) for backend in due], timeout=PATIENCE_SECONDS)

    @property
    def may_know_more(self) -> bool:
        """It is worth while to ask again."""
        return any(self._is_old(backend) for backend in self._routers())

    def forget(self, server: str) -> None:
        """Something has changed there: what was read is old."""
        backend = self._gateway.backends.get(server)
        if backend is not None and backend.facts.is_router:
            self._read.pop(backend, None)
            self.look(backend)

    def close(self) -> None:
        for task in self._reading.values():
            task.cancel()

    def _routers(self) -> Iterable[Backend]:
        return (each for each in self._gateway.all if each.facts.is_router and each.facts.ready)

    def _is_old(self, backend: Backend) -> bool:
        pid, at = self._read.get(backend, (None, float("-inf")))
        return pid != backend.facts.pid or self._gateway.loop.time() - at >= SOON_SECONDS

    def _begin(self, backend: Backend, reload: bool = False) -> asyncio.Task[None]:
        key = (backend.facts.name, reload)
        task = self._reading.get(key)
        if task is None:
            self._read[backend] = (backend.facts.pid, self._gateway.loop.time())
            task = self._reading[key] = asyncio.create_task(self._ask(backend, reload))
            task.add_done_callback(partial(self._over, key))
        return task

    def _over(self, key: tuple[str, bool], task: asyncio.Task[None]) -> None:
        self._reading.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("❌ [GATEWAY] This is a mistake in llamaproxy.", exc_info=error)

    async def _ask(self, backend: Backend, reload: bool) -> None:
        asked = backend.facts
        try:
            told = await fetch(backend, RELOAD_PATH if reload else PATH)
            listing = listing_of(read_json(told), self._gateway.wall_time())
        except (RefusedError, *UNUSABLE) as error:
            log.debug("%s does not say what models it has: %s", asked.name, error)
        except FetchError:
            self._read.pop(backend, None)  # the next look asks again
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
