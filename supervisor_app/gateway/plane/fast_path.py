"""The short way, for a request that is only passed on, and whose answer is only passed back.

Such a request comes whole, with the head of the one before it on its connection, while its server is ready
and has a connection to spare. It costs half of what an `Exchange` does. At the first thing out of the
ordinary it becomes an `Exchange`: what can happen to a request is decided there, not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from supervisor_app.gateway.access.door import NotAllowedError
from supervisor_app.gateway.access.keys import Denied, KeyPolicy, Limiter, keeps_from
from supervisor_app.gateway.http.reply import Reply, sized
from supervisor_app.gateway.llama.dialects import id_fields
from supervisor_app.gateway.llama.hints import Hints, hints_of
from supervisor_app.gateway.llama.meter import usage_of
from supervisor_app.gateway.llama.nesting import is_too_deep
from supervisor_app.gateway.plane.body import may_take_long
from supervisor_app.gateway.plane.exchange import Exchange
from supervisor_app.gateway.plane.own import PUBLIC
from supervisor_app.gateway.plane.pages import page_fields
from supervisor_app.gateway.plane.ports import Caller, ExchangeGateway
from supervisor_app.gateway.plane.sight import client_of
from supervisor_app.gateway.records.in_flight import InFlight, Phase
from supervisor_app.gateway.records.record import Outcome, Record
from supervisor_app.gateway.servers.attempt import Attempt
from supervisor_app.gateway.servers.turns import NEWCOMER
from supervisor_app.gateway.servers.visit import Visit

if TYPE_CHECKING:
    from supervisor_app.gateway.http.answer_heads import ResponseHead
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.llama.usage import Usage
    from supervisor_app.gateway.plane.live import LiveRequest
    from supervisor_app.gateway.problem import Problem
    from supervisor_app.gateway.servers.backend import Backend
    from supervisor_app.gateway.servers.upstream import Connection

OK = 200


class FastCaller(Caller, Protocol):
    """The client's connection, which can also be answered at once."""

    def answer(self, whole: bytes, now: float) -> None:
        """Write the whole answer of a request that is over with that."""

    def fail(self) -> None:
        """A mistake in llamaproxy: refuse the request."""

    def reply_to(self, head: RequestHead) -> Reply: ...

    def go_on_with(self, request: LiveRequest) -> None:
        """The request has become this one."""


class FastPathGateway(ExchangeGateway, Protocol):
    """The gateway, for a request that keeps its own books."""

    exchanges: set[LiveRequest]
    limiter: Limiter

    def may_keep(self, size: int) -> bool:
        """Tell whether there is room to keep a body of so many bytes until it is answered."""


class Grown(NamedTuple):
    """The parts that a request on the fast path becomes at the first thing out of the ordinary."""

    exchange: Exchange
    visit: Visit
    attempt: Attempt


def take_fast_path(
    gateway: FastPathGateway, client: FastCaller, head: RequestHead, body: bytes
) -> FastExchange | None:
    """Begin a request whose head `is_plain`. None: it takes the long way, and nothing has changed."""
    if head.path in PUBLIC or not head.operation.pure or not gateway.may_keep(len(body)):
        return None  # a request that is sent once must not meet a stale connection
    hints = hints_of(body, head.noted.get(b"content-type", b""))
    if hints.stream or hints.answers != 1 or hints.prompts != 1 or may_take_long(head.operation, hints):
        return None
    if is_too_deep(body) or hints.model in gateway.presets:
        return None
    if not hints.model and (head.query or not gateway.takes_any_name):  # the query may name a model
        return None
    candidates = gateway.candidates(hints.model)
    if len(candidates) != 1 or gateway.inquest.suspects_anybody():
        return None
    backend = candidates[0]
    facts = backend.facts
    if not (facts.ready and facts.wanted) or gateway.isolates(facts):
        return None
    if facts.textless and head.operation.makes_text:
        return None
    at = gateway.wall_time()
    try:
        policy = gateway.door.check(head, at)
    except (Denied, NotAllowedError):
        return None
    if policy is not None and (
        policy.models
        or policy.capture
        or (policy.budget is not None and policy.budget.is_spent(at))
        or head.names_conversation
        or head.operation.scope not in policy.scopes
        or (policy.families and keeps_from(policy, head.operation))
    ):
        return None
    connection = backend.pool.take()
    if connection is None:
        return None
    exchange = FastExchange(gateway, client, head, body, hints, backend, connection, policy, at)
    if exchange.enter():
        return exchange
    backend.pool.give_back(connection)
    return None


class FastExchange:
    """`LiveRequest`, `visitors.Insider` and `upstream.Receiver`: from the head of a request to its record."""

    __slots__ = (
        "_answer",
        "_body",
        "_client",
        "_connection",
        "_ended",
        "_gateway",
        "_hints",
        "arrival",
        "asked",
        "at",
        "backend",
        "head",
        "id",
        "needs_slot",
        "policy",
        "since",
    )

    solo = insists = False
    turn = NEWCOMER
    keep_alive = True
    has_begun = False

    def __init__(
        self,
        gateway: FastPathGateway,
        client: FastCaller,
        head: RequestHead,
        body: bytes,
        hints: Hints,
        backend: Backend,
        connection: Connection,
        policy: KeyPolicy | None,
        at: float,
    ) -> None:
        self.head = head
        self.backend = backend
        self.asked = backend.facts
        """The server as it was when the request was sent."""
        self.policy = policy
        self.arrival = next(gateway.arrivals)
        self.at = at
        self.since = gateway.loop.time()
        self.needs_slot = head.operation.needs_slot
        self._gateway = gateway
        self._client = client
        self._body = body
        self._hints = hints
        self._connection = connection
        self.id = ""
        self._answer = b""
        self._ended = 0.0

    @property
    def counts_as_use(self) -> bool:
        return self.head.operation.counts_as_use

    @property
    def key(self) -> int | None:
        return self.policy.id if self.policy is not None else None

    @property
    def model(self) -> str:
        return self._hints.model or ""

    def enter(self) -> bool:
        """Take a place at the server. False: there is none now, and nothing has changed."""
        if not self.backend.gate.enter_now(self):
            return False
        if self.policy is not None:
            try:
                self._gateway.limiter.admit(self.policy, self.since)
            except Denied:
                self.backend.gate.leave(self)
                return False
        return True

    def send(self) -> None:
        body, connection, gateway = self._body, self._connection, self._gateway
        self.id = next(gateway.ids)
        gateway.exchanges.add(self)
        gateway.kept_bytes += len(body)
        head = self.head.for_server(connection.authority, self.asked.api_key, len(body))
        connection.ask(self, head, body)

    def on_whole(self, head: ResponseHead, length: int, content: bytes) -> None:
        if head.status != OK or head.is_event_stream:
            self._to_exchange().attempt.on_whole(head, length, content)
            return
        gateway, backend = self._gateway, self.backend
        self._ended = now = gateway.loop.time()
        self._answer = content
        own = id_fields(self.head.dialect, self.id) + page_fields(gateway.door, self.head)
        beginning = head.beginning + own
        self._client.answer(sized(beginning, content), now)
        backend.trust()
        gateway.leave_gate(backend, self)
        gateway.kept_bytes -= len(self._body)
        gateway.finished(self, recorded=True)

    def record(self) -> Record:
        """Make the record of a request that is over."""
        took = (self._ended - self.since) * 1000
        return Record(
            at=self.at,
            server=self.asked.name,
            model=self._hints.model or "",
            key=self.policy.id if self.policy else None,
            method=self.head.method,
            route=self.head.path,
            status=OK,
            outcome=Outcome.OK,
            ttft_ms=took,
            duration_ms=took,
            usage=usage_of(self._answer),
            counts_as_use=self.counts_as_use,
            id=self.id,
        )

    def in_flight(self) -> InFlight:
        """See `LiveRequest`."""
        return InFlight(
            id=self.id,
            at=self.at,
            phase=Phase.SENT,
            server=self.asked.name,
            model=self.model,
            key=self.policy.name if self.policy is not None else "",
            client=client_of(self._client.address, self.head),
            route=self.head.path,
        )

    @staticmethod
    def charged(usage: Usage) -> int:
        """Tokens that count for the API key."""
        return (usage.prompt_tokens or 0) + (usage.generated_tokens or 0)

    @property
    def is_large(self) -> bool:
        """Always False: the hints of the body are known already."""
        return False

    # Out of the ordinary

    def refuse(self, problem: Problem, outcome: Outcome = Outcome.REFUSED) -> None:
        self._to_exchange().exchange.refuse(problem, outcome)

    def on_body(self, data: bytes) -> None:
        self._to_exchange().exchange.on_body(data)

    def on_body_end(self) -> None:
        self._to_exchange().exchange.on_body_end()

    def show_life(self) -> bool:
        return self._to_exchange().exchange.show_life()

    def client_left(self) -> None:
        self._to_exchange().exchange.client_left()

    @staticmethod
    def waits_for_stream_of(conversation: str, policy: KeyPolicy | None) -> bool:
        """Always False: the request has been sent, and asks for no stream."""
        return False

    def stopped_before_it_began(self) -> None:
        self._to_exchange().exchange.stopped_before_it_began()

    def client_writable(self, writable: bool) -> None:
        """Do nothing: the answer comes in one piece."""

    def server_ended(self) -> None:
        self._to_exchange().visit.server_ended()

    def on_head(self, head: ResponseHead, length: int | None) -> None:
        self._to_exchange().attempt.on_head(head, length)

    def on_content(self, content: bytes) -> None:
        self._to_exchange().attempt.on_content(content)

    def on_end(self) -> None:
        self._to_exchange().attempt.on_end()

    def on_lost(self, reason: str) -> None:
        self._to_exchange().attempt.on_lost(reason)

    def on_mistake(self) -> None:
        self._client.fail()

    def on_writable(self, writable: bool) -> None:
        """Do nothing: the whole request has been sent."""

    def _to_exchange(self) -> Grown:
        """Convert to a full exchange, which goes on; this object must not be used afterwards."""
        gateway, client = self._gateway, self._client
        reply = client.reply_to(self.head)
        exchange = Exchange(gateway, client, self.head, len(self._body), reply, self.id)
        visit, attempt = exchange.go_on_from(self, self._body, self._connection)
        self.backend.gate.replace(self, visit)
        gateway.exchanges.discard(self)
        gateway.exchanges.add(exchange)
        client.go_on_with(exchange)
        return Grown(exchange, visit, attempt)
