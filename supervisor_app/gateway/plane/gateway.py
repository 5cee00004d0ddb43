"""The gateway of one process: what its exchanges share. One event loop, no database."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import TYPE_CHECKING

from supervisor_app.gateway import problems
from supervisor_app.gateway.access.crowd import Crowd
from supervisor_app.gateway.access.door import Door, NotAllowedError
from supervisor_app.gateway.access.keys import (
    KeyPolicy,
    KeyRing,
    Limiter,
    model_denied,
)
from supervisor_app.gateway.http.head_cache import HeadCache
from supervisor_app.gateway.llama.hints import Hints, prefix_digest
from supervisor_app.gateway.llama.isolation import is_shared_with
from supervisor_app.gateway.plane.inquest import Inquest
from supervisor_app.gateway.plane.record_queue import RecordQueue
from supervisor_app.gateway.plane.sight import sight_of
from supervisor_app.gateway.plane.work_queue import WorkQueue
from supervisor_app.gateway.records.record import Outcome, request_ids
from supervisor_app.gateway.servers.backend import Backend
from supervisor_app.gateway.servers.routing import Router, alike, may_use, offers, serves
from supervisor_app.gateway.workers.neighbours import neighbours_of
from supervisor_app.gateway.workers.shared_limits import SharedLimiter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from supervisor_app.gateway.http.limits import Limits
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.plane.body import RequestBody
    from supervisor_app.gateway.plane.client import Client
    from supervisor_app.gateway.plane.live import LiveRequest
    from supervisor_app.gateway.plane.outside import Outside
    from supervisor_app.gateway.records.in_flight import Sight
    from supervisor_app.gateway.servers.facts import ServerFacts
    from supervisor_app.gateway.servers.visitors import Insider
    from supervisor_app.gateway.workers.board import Board

SWEEP_SECONDS = 0.5
DISK_THREADS = 4
MARK_BYTES = 6
"""Length of the mark in request ids that tells one gateway from another."""


class Gateway:
    """Routes and counts requests; knows every backend, every open connection and every key."""

    def __init__(
        self,
        *,
        limits: Limits,
        door: Door,
        outside: Outside,
        public_metrics: bool = True,
        wall_time: Callable[[], float] = time.time,
        board: Board | None = None,
        default_server: str = "",
        ids: Iterator[str] | None = None,
    ) -> None:
        """Take what the gateway needs of the world.

        `board`: shared by several workers; closed with the gateway. `default_server`: answers requests that
        name no model. `ids`: names for requests, each a new one.
        """
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.door = door
        self.limiter = Limiter() if board is None else SharedLimiter(board)
        self.inquest = Inquest(board, door=door, outside=outside, wall_time=wall_time, loop=self.loop)
        self.backends: dict[str, Backend] = {}
        self.public_metrics = public_metrics
        self.wall_time = wall_time
        self.draining = False
        self.board = board
        self._meet = partial(neighbours_of, board=board) if board is not None else None
        self._default_server = default_server
        self._drained = asyncio.Event()
        self.outside = outside
        self.clients: set[Client] = set()
        self.crowd: Crowd[Client] = Crowd()
        self.exchanges: set[LiveRequest] = set()
        self.kept_bytes = 0
        """Bytes of all bodies in memory, kept to send them again."""
        self.spooled_bytes = 0
        """Bytes of all long bodies on disk."""
        self.disk: Executor = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="gateway-disk")
        """Threads for the disk: a slow one holds up only requests that need it."""
        self.heads = HeadCache()
        self.all: tuple[Backend, ...] = ()
        self.takes_any_name = False
        """True: there is one server, for which any name of a model will do, as for llama-server itself."""
        self.presets: Mapping[str, str] = {}
        """Name of a preset -> its server."""
        self.arrivals: Iterator[int] = count(1)
        self.large_work = WorkQueue(self.loop)
        self.ids = request_ids(secrets.token_hex(MARK_BYTES)) if ids is None else ids
        self._router = Router()
        self._records = RecordQueue(self.loop, self._record_one)
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    # Connections

    def join(self, client: Client) -> bool:
        """Count a connection. False: there are too many, or the gateway is draining."""
        if self.draining:
            return False
        may_stay, leaving = self.crowd.join(client, self.limits.connections)
        if leaving is not None:
            leaving.make_room()
        if not may_stay:
            return False
        self.clients.add(client)
        return True

    def leave(self, client: Client) -> None:
        self.clients.discard(client)
        self.crowd.leave(client)
        if self.draining and not self.clients:
            self._drained.set()

    def learn_keys(self, keys: KeyRing) -> None:
        """Use these keys from now on, and end requests that came with a key that is no longer good."""
        self.door.keys = keys
        now = self.wall_time()
        for exchange in list(self.exchanges):
            operation = exchange.head.operation
            denied = exchange.policy and keys.withdrawn(exchange.policy, operation, now)
            if denied:
                exchange.refuse(problems.denied(denied), Outcome.REFUSED)

    def stop_waiting(self, conversation: str, policy: KeyPolicy | None) -> None:
        """End the streams of this conversation that still wait for a server and came with the same key."""
        for exchange in list(self.exchanges):
            if exchange.waits_for_stream_of(conversation, policy):
                exchange.stopped_before_it_began()

    def track_task(self, work: asyncio.Task[None]) -> None:
        """Keep a task alive until it is done."""
        self._tasks.add(work)
        work.add_done_callback(self._tasks.discard)

    # Questions of exchanges

    def candidates(self, model: str | None) -> Sequence[Backend]:
        """The servers that have this model; for a request that names none, the default one."""
        if self.takes_any_name:
            return self.all
        if server := self.presets.get(model or ""):
            return (self.backends[server],)
        if not model:
            default = self.backends.get(self._default_server)
            return (default,) if default is not None else ()
        return tuple(backend for backend in self.backends.values() if serves(backend.facts, model))

    def allowed(
        self, policy: KeyPolicy | None, hints: Hints, candidates: Sequence[Backend]
    ) -> Sequence[Backend]:
        """The candidates that this key may use. Raises Denied and NotAllowedError."""
        if not candidates:
            known = list(offers(self.facts(), policy))
            raise NotAllowedError(problems.model_not_found(hints.model or "", known))
        found = [backend for backend in candidates if may_use(policy, backend.facts, hints)]
        if not found and policy is not None:
            doubt = hints.doubt if any(backend.facts.is_router for backend in candidates) else ""
            raise model_denied(policy, hints.model or candidates[0].facts.name, doubt)
        return found

    def must_read_on(self, policy: KeyPolicy | None, head: RequestHead, body: RequestBody) -> bool:
        """Does it take all of a body that is too long to be kept to know where it goes, or may go?"""
        is_limited = policy is not None and bool(policy.models)
        if head.method != "POST" or (self.takes_any_name and not is_limited and not self.presets):
            return False
        hints = body.hints
        if not hints.model and (len(self.all) > 1 or self.presets):
            return True
        return any(
            backend.facts.is_router and not may_use(policy, backend.facts, hints)
            for backend in self.candidates(hints.model)
        )

    def choose(self, candidates: Sequence[Backend], session: str, body: bytes) -> Backend:
        """Choose a server. `session`: the client's name of its conversation; else its beginning will do."""
        if len(candidates) == 1:
            return candidates[0]
        conversation = blake2b(session.encode(), digest_size=8).digest() if session else prefix_digest(body)
        return self._router.choose(candidates, conversation or b"")

    def leave_gate(self, backend: Backend, visitor: Insider) -> None:
        """Free the place of a visitor for those that wait, here or for another server with the model."""
        backend.gate.leave(visitor)
        if not self.takes_any_name:
            self._offer(backend)

    def _offer(self, backend: Backend) -> None:
        for other in self.all:
            if other is backend or not other.gate.waiting or not alike(other.facts, backend.facts):
                continue
            for visitor in list(other.gate.waiting):
                if backend.gate.has_room_for(visitor):
                    visitor.server_changed()

    def wake(self, backend: Backend) -> None:
        self.outside.wake(backend.facts.name)

    def server_lost(self) -> None:
        self.outside.server_lost()

    def isolates(self, facts: ServerFacts) -> bool:
        """Is this server shared with a key whose prompts nobody else may find in the cache?"""
        isolating = self.door.keys.isolating
        if not isolating:
            return False
        names = (facts.name, *facts.models, *facts.presets)
        return any(is_shared_with(policy.models, names, is_router=facts.is_router) for policy in isolating)

    def may_keep(self, size: int) -> bool:
        """Is there room to keep a body of so many bytes until it is answered?"""
        limits = self.limits
        return (
            size <= limits.body_bytes
            and size <= limits.replay_bytes
            and self.kept_bytes + size <= limits.all_replay_bytes
        )

    def finished(self, exchange: LiveRequest, *, recorded: bool) -> None:
        """Close the books of a request; its record is made a moment later, with those of others."""
        self.exchanges.discard(exchange)
        if exchange.policy is not None:
            self.limiter.release(exchange.policy)
        if recorded:
            self._records.add(exchange)

    def _record_one(self, exchange: LiveRequest) -> None:
        record = exchange.record()
        if exchange.policy is not None:
            self.limiter.charge(exchange.policy, exchange.charged(record.usage), self.loop.time())
        self.outside.record(record)

    def sight(self) -> Sight:
        """See what is in flight, for people."""
        return sight_of(self.exchanges, self.all)

    def cancel(self, ids: Collection[str]) -> None:
        """End the requests of these names that are in flight here; their servers stop computing."""
        for exchange in list(self.exchanges):
            if exchange.id in ids:
                exchange.refuse(problems.cancelled(), Outcome.CANCELLED)

    # Servers

    def facts(self) -> Iterable[ServerFacts]:
        return (backend.facts for backend in self.backends.values())

    def load(self) -> Iterable[tuple[str, str, int, int]]:
        """List for each server and model asked for: both names, requests in flight, requests held."""
        for backend in self.all:
            inside = Counter(visitor.model for visitor in backend.gate.at_any_process)
            waiting = Counter(visitor.model for visitor in backend.gate.waiting)
            for model in dict.fromkeys([*(backend.facts.offered or ("",)), *inside, *waiting]):
                yield backend.facts.name, model, inside[model], waiting[model]

    def hear(self, facts: ServerFacts) -> None:
        """Learn of a change of one server."""
        self.learn({**{name: known.facts for name, known in self.backends.items()}, facts.name: facts})

    def learn(self, servers: Mapping[str, ServerFacts]) -> None:
        """Learn of all servers as they are now."""
        gone = [self.backends.pop(name) for name in self.backends.keys() - servers.keys()]
        for name, facts in servers.items():
            backend = self.backends.get(name)
            if backend is None:
                self.backends[name] = backend = Backend(facts, self.limits, self._meet)
                backend.open_if_ready()
            elif facts != backend.facts:
                news = facts.with_news_of(backend.facts, self.loop.time())
                self.inquest.settle(backend, news)  # before waiting requests go on
                backend.update(news)
        self.all = tuple(self.backends.values())
        self.takes_any_name = len(self.all) == 1
        self.presets = {name: each.name for each in self.facts() for name in each.presets}
        for backend in gone:
            backend.is_gone = True
            backend.gate.is_open = False
            backend.close()
            self._notify_waiting(backend)
        for backend in self.all:
            if not backend.facts.ready:
                for visitor in backend.gate.in_flight:
                    visitor.server_ended()
            if backend.facts.away:
                for visitor in backend.gate.former.copy():
                    visitor.server_ended()
            self.inquest.settle(backend, backend.facts)
            if backend.gate.waiting:
                self._notify_waiting(backend)

    @staticmethod
    def _notify_waiting(backend: Backend) -> None:
        """Let each request that waits there decide anew whether it should."""
        for visitor in list(backend.gate.waiting):
            visitor.server_changed()

    @property
    def may_hear_of_models(self) -> bool:
        """Is there a router that can be asked for its models?"""
        return any(backend.facts.is_router and backend.facts.ready for backend in self.all)

    # Time passes

    def _sweep(self) -> None:
        self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)
        now = self.loop.time()
        for client in [client for client in self.clients if client.deadline < now]:
            client.too_slow()
        for client in self.clients:
            client.look_for_its_end()
        if self.board is not None:
            self.board.sweep(now)
        for backend in self.backends.values():
            backend.sweep()
            if not self.takes_any_name:  # other workers make room elsewhere, too
                self._notify_waiting(backend)

    async def drain(self, grace: float) -> None:
        """Finish what was begun, until clients have it or `grace` seconds are over; refuse the rest."""
        self.draining = True
        for client in list(self.clients):
            if client.is_idle:
                client.close()
        if self.clients:
            self._drained.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._drained.wait()
        for backend in self.all:
            backend.gate.is_open = False  # a refused request makes room for no other
        for exchange in list(self.exchanges):
            exchange.refuse(problems.restarting(), Outcome.UNAVAILABLE)
        self._records.make_all()

    def hurry(self) -> None:
        """End the wait of `drain`."""
        self._drained.set()

    def close(self) -> None:
        self._records.make_all()
        self._sweeper.cancel()
        for client in list(self.clients):
            client.close()
        for backend in self.backends.values():
            backend.close()
        for task in self._tasks:
            task.cancel()
        if self.board is not None:
            # Requests whose connections end only now still use these, when the board is gone.
            self.limiter = Limiter()
            self.inquest.leave_board()
            self.board.close()
