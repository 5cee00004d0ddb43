"""One request, from its head to its record: its body, where it goes, and how it ends.

body ─▶ route ─▶ visit (gate ─▶ attempt) ─▶ answered
                  ▲ hold ◀─── │ the server died before content
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from supervisor_app.gateway.access.crowd import owner_of
from supervisor_app.gateway.access.door import NotAllowedError
from supervisor_app.gateway.access.keys import Denied, KeyPolicy
from supervisor_app.gateway.http.answer_heads import ResponseHead
from supervisor_app.gateway.http.heads import status_line
from supervisor_app.gateway.http.reply import CHUNKED_END, Reply
from supervisor_app.gateway.http.request_heads import RequestHead
from supervisor_app.gateway.llama.conversations import conversation_of, is_control
from supervisor_app.gateway.llama.dialects import Stream, id_fields
from supervisor_app.gateway.llama.isolation import NotIsolatedError, check_isolation, without_cache
from supervisor_app.gateway.plane import problems
from supervisor_app.gateway.plane.body import RequestBody
from supervisor_app.gateway.plane.notes import Notes
from supervisor_app.gateway.plane.pages import page_fields
from supervisor_app.gateway.plane.problems import Problem, cors_fields
from supervisor_app.gateway.plane.reading_on import ReadingOn
from supervisor_app.gateway.records.record import Outcome, Record, Usage
from supervisor_app.gateway.servers.gate import QueueFullError
from supervisor_app.gateway.servers.hold import EVENT_STREAM, Hold
from supervisor_app.gateway.servers.streams import done_by_one_of, holder_of, streams_of_all
from supervisor_app.gateway.servers.suspects import Suspicion
from supervisor_app.gateway.servers.visit import Visit

if TYPE_CHECKING:
    from supervisor_app.gateway.plane.client import Client
    from supervisor_app.gateway.plane.fast_path import FastExchange
    from supervisor_app.gateway.plane.gateway import Gateway
    from supervisor_app.gateway.servers.attempt import Attempt
    from supervisor_app.gateway.servers.backend import Backend
    from supervisor_app.gateway.servers.facts import ServerFacts
    from supervisor_app.gateway.servers.upstream import Connection

log = logging.getLogger(__name__)

NOTHING = b":\n\n"
LARGE = 64 * 1024
"""Bytes of a body that take about a millisecond to read."""


class Exchange:
    """Owned by its client's connection, which feeds it and hears when it is over."""

    __slots__ = (
        "_asked_around",
        "_client",
        "_gateway",
        "_is_isolated",
        "_kept_bytes",
        "_reading_on",
        "_visit",
        "_was_routed",
        "_was_sent",
        "arrival",
        "body",
        "committed",
        "head",
        "hold",
        "id",
        "is_ours",
        "is_over",
        "is_public",
        "notes",
        "policy",
        "reply",
        "started",
        "suspicion",
        "was_lost",
    )

    def __init__(
        self,
        gateway: Gateway,
        client: Client,
        head: RequestHead,
        length: int | None,
        reply: Reply,
        request_id: str = "",
    ) -> None:
        """`request_id`: the name that it has already."""
        self.head = head
        self.id = request_id or next(gateway.ids)
        reply.fields = id_fields(head.dialect, self.id)
        self.body = RequestBody(head, length)
        self.reply = reply
        self.arrival: int = next(gateway.arrivals)
        self.hold: Hold | None = None
        self.suspicion: Suspicion | None = None
        self.was_lost = False
        """It has not been sent since its server was lost."""
        self.policy: KeyPolicy | None = None
        self.started = gateway.loop.time()
        self.notes = Notes(gateway.wall_time())
        self.committed = False
        """Content of an answer has gone to the client."""
        self.is_over = False
        self.is_public = False
        """No key was asked for, so its server must not take it for one of ours."""
        self.is_ours = False
        """We are making its answer: no server is asked."""
        self._gateway = gateway
        self._client = client
        self._visit: Visit | None = None
        self._was_routed = False
        self._was_sent = False
        self._is_isolated = False
        """Its server must not serve it from the cache."""
        self._kept_bytes = 0
        self._reading_on: ReadingOn | None = None
        self._asked_around = False
        """Servers were asked what they have before it was said that none will do."""

    # The request comes

    def on_body(self, data: bytes) -> None:
        body, limits = self.body, self._gateway.limits
        if self.is_over or self.is_ours:
            return
        body.size += len(data)
        if body.size > limits.body_bytes:
            self.refuse(problems.bad_request("The body is too large.", status=413, code="body_too_large"))
        elif body.is_too_deep(data):
            self.refuse(problems.too_deep())
        elif self._reading_on is not None:
            self._reading_on.put(data)
        elif body.overflows:
            self._pass_on(data)
        else:
            body.keep(data)
            self._kept_bytes = body.size
            self._gateway.kept_bytes += len(data)
            if body.size > limits.replay_bytes or self._gateway.kept_bytes > limits.all_replay_bytes:
                body.overflow()
                self._route_or_read_on()

    def go_on_from(self, fast: FastExchange, body: bytes, connection: Connection) -> tuple[Visit, Attempt]:
        """It has been sent over this connection; nothing has come back yet."""
        self.arrival, self.started, self.notes.at = fast.arrival, fast.since, fast.at
        self.let_in(fast.policy)
        self.body.take_whole(body)
        self._kept_bytes = len(body)
        self._was_routed = self._was_sent = True
        self.notes.server = fast.asked.name
        self._visit = visit = Visit(self, self._gateway, fast.backend)
        return visit, visit.go_on(fast.asked, connection)

    def let_in(self, policy: KeyPolicy | None) -> None:
        """It comes with this key; None: with none."""
        self.policy = policy
        if policy is not None and self.head.names_conversation:
            self.head = self.head.of_key(policy.id)
        self.body.key = policy.id if policy is not None else None

    def on_body_end(self) -> None:
        self.body.is_whole = True
        if self.is_over or self.is_ours:
            return
        if not self.body.overflows:
            if self.is_large:
                self._gateway.turns.take(self._route)
            else:
                self._route()
        elif self._reading_on is not None:
            self.do(self._route_when_read(self._reading_on))
        elif self._visit is not None and self.body.length is None:
            self._visit.write(CHUNKED_END)

    def _pass_on(self, data: bytes) -> None:
        """More than can be kept: as it comes, once there is somebody to take it."""
        if self._visit is None or not self._visit.takes_body:
            self.body.keep(data)
            self._client.hold_back(True)
        else:
            self._visit.write(self.body.framed(data))

    def _route_or_read_on(self) -> None:
        """More of its body follows than can be kept."""
        if not self._gateway.must_read_on(self.policy, self.head, self.body):
            self._route()
            return
        self._reading_on = ReadingOn(self, self._client, self._gateway)
        self._gateway.kept_bytes -= self._kept_bytes
        self._kept_bytes = 0
        beginning = self.body.kept()
        self.body.shorten(LARGE)
        self._reading_on.put(beginning)

    async def _route_when_read(self, reading_on: ReadingOn) -> None:
        if await reading_on.end():
            self._route()

    def request_for(
        self, authority: bytes, api_key: str, instead: bytes | None = None
    ) -> tuple[bytes, bytes]:
        """Head and body as far as it has come. `instead`: a body to send in place of the client's own."""
        self._was_sent = True
        if self._is_isolated:
            instead = without_cache(self.body.kept() if instead is None else instead)
        body, length = self.body.for_server(instead)
        if self.body.overflows:
            self._gateway.kept_bytes -= self._kept_bytes
            self._kept_bytes = 0
            self._client.hold_back(False)
        if self._reading_on is not None and self._visit is not None:
            self.do(self._reading_on.pour(self._visit))
        return self.head.for_server(authority, api_key, length), body

    def isolate(self, facts: ServerFacts) -> Problem | None:
        """Before it is sent to this server: keep it from the cache, if a key isolates its prompts there. With
        what to refuse it, if that cannot be done.
        """
        endpoint, body = self.head.endpoint, self.body
        self._is_isolated = False
        if not (self.head.method == "POST" and endpoint.needs_slot and self._gateway.isolates(facts)):
            return None
        try:
            self._is_isolated = check_isolation(
                endpoint,
                body.kept(),
                is_form=body.is_form,
                is_partial=body.overflows,
                caches=facts.caches_prompts,
            )
        except NotIsolatedError as error:
            return problems.not_isolated(facts.name, str(error))
        return None

    # Where it goes

    def _route(self) -> None:
        if self.is_over:
            return  # its client has left while others had their turn
        self._was_routed = True
        if complaint := self._complaint():
            self.refuse(problems.bad_request(complaint))
            return
        try:
            candidates = self._candidates()
        except Denied as denied:
            self.refuse(problems.denied(denied))
            return
        except NotAllowedError as error:
            if self._asked_around or not self._gateway.may_hear_of_models:
                self.refuse(error.problem)
            else:
                self._asked_around = True
                self.do(self._look_again())
            return
        head = self.head
        if head.method == "DELETE" and (conversation := conversation_of("DELETE", head.path, head.query)):
            self._gateway.stop_waiting(conversation, self.policy)
        if head.asks_for_streams and (len(candidates) > 1 or self.policy is not None):
            self.do(self._go_to_streams(candidates))
        else:
            self._go_on(candidates)

    def _complaint(self) -> str:
        """What is wrong with its body, where that decides where it goes; empty: nothing."""
        head, body = self.head, self.body
        decides = len(self._gateway.all) > 1 and head.method == "POST" and not head.endpoint.relays
        return body.fault() if decides and not body.hints.model else ""

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Something takes time before it can be answered. `work` looks whether it is over by then."""
        self._gateway.do(asyncio.ensure_future(self._unless_mistaken(work)))

    async def _unless_mistaken(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("❌ [GATEWAY] A request is lost. This is a mistake in llamaproxy.")
            self.refuse(problems.mistake(), Outcome.UNAVAILABLE)

    async def _look_again(self) -> None:
        """Nobody has the model that it wants, as far as we know."""
        await self._gateway.outside.read_models(now=True)
        if not self.is_over:
            self._route()

    async def _go_to_streams(self, candidates: Sequence[Backend]) -> None:
        """To the one that has the stream of its conversation; to all with a question after several streams,
        or with an order that one of them can carry out.
        """
        head, answer = self.head, None
        conversation = conversation_of(head.method, head.path, head.query)
        if conversation:
            holder = await holder_of(conversation, candidates)
            candidates = candidates if holder is None else [holder]
        elif is_control(head.method, head.path):
            answer = await done_by_one_of(self.body.kept(), candidates)
        else:
            key = None if self.policy is None else self.policy.id
            answer = await streams_of_all(self.body.kept(), candidates, key)
        if self.is_over:
            return
        if answer is None:
            self._go_on(candidates)
        else:
            self.answer(200, problems.JSON_FIELDS + cors_fields(self.origin), answer)

    def _go_on(self, candidates: Sequence[Backend]) -> None:
        if (problem := self.look_back()) is not None:
            self.refuse(problem, Outcome.QUARANTINED)
            return
        if self.policy is not None and self.policy.capture:
            self.notes.capture()
        self.go_to_one_of(candidates)

    def look_back(self) -> Problem | None:
        """What was this request in before, when it was sent by another client, or by this one?"""
        gateway = self._gateway
        if not gateway.suspects_anybody():
            return None
        if (paused := gateway.pause_of(self.policy)) is not None:
            return problems.denied(paused)
        body_hash, now = self.body.hash(), gateway.wall_time()
        self.suspicion = self.suspicion or gateway.suspects.find(body_hash, now)
        entry = gateway.quarantined.find(body_hash, now)
        if entry is None:
            return None
        self.notes.incident, self.notes.server = entry.incident, entry.server
        return problems.quarantined(entry.server, entry.incident, int(entry.until - now))

    def _candidates(self) -> Sequence[Backend]:
        """The servers that may answer it now. Raises Denied and NotAllowedError."""
        gateway, policy = self._gateway, self.policy
        if gateway.takes_any_name and (policy is None or not policy.models):
            return gateway.all
        hints = self.body.hints
        asks_all = self.head.asks_for_streams and not hints.model
        return gateway.allowed(policy, hints, gateway.all if asks_all else gateway.candidates(hints.model))

    def candidates_now(self) -> Sequence[Backend] | Problem:
        """What is known of servers may have changed since it came. A problem: no server is left for it."""
        try:
            return self._candidates()
        except Denied as denied:
            return problems.denied(denied)
        except NotAllowedError as error:
            return error.problem

    def go_to_one_of(self, candidates: Sequence[Backend]) -> None:
        """To the best of them, or into its queue."""
        if len(candidates) == 1:
            backend = candidates[0]
        else:
            head = self.head
            session = (
                head.text(b"x-conversation-id") or head.text(b"session") or self.body.hints.session or ""
            )
            backend = self._gateway.choose(candidates, session, self.body.kept())
        facts = backend.facts
        self.notes.server = facts.name
        if self.is_public and not facts.ready:
            self.is_not_ready(backend)
            return
        self._visit = Visit(self, self._gateway, backend)
        wakes = self.head.endpoint.wakes
        if facts.is_hopeless_for(wakes=wakes):
            self.give_up(backend)
            return
        if facts.asleep and wakes:
            self._gateway.wake(backend)
        try:
            self._visit.enter()
        except QueueFullError:
            self.refuse_full_queue(backend)

    def refuse_full_queue(self, backend: Backend) -> None:
        wait = backend.retry_after(self._gateway.wall_time())
        problem = problems.queue_full(backend.facts.name, backend.gate.queue_length, wait)
        self.refuse(problem, Outcome.UNAVAILABLE)

    @property
    def owner(self) -> int:
        """Whose it is, where clients have equal shares."""
        return owner_of(self.body.key, self._client.address)

    def has_too_many(self, policy: KeyPolicy | None) -> bool:
        """It may come in, but its owner has all the connections that one may have."""
        owner = owner_of(policy.id if policy is not None else None, self._client.address)
        return not self._gateway.crowd.trust(self._client, owner, self._gateway.limits.connections)

    @property
    def keep_alive(self) -> bool:
        """Another request may follow."""
        return self.reply.keep_alive

    @property
    def is_sent_once(self) -> bool:
        """Once a server has it, it cannot be sent again."""
        return self.body.overflows or not self.head.endpoint.pure

    def as_exchange(self) -> Exchange:
        """See `FastExchange`."""
        return self

    @property
    def origin(self) -> str:
        """Of the page that asks and may read what we say; empty: it is none, or may not."""
        origin = self.head.text(b"origin")
        return origin if self._gateway.door.shows_refusals(origin) else ""

    @property
    def is_known_origin(self) -> bool:
        return self._gateway.door.knows_origin(self.head.text(b"origin"))

    def beginning_of(self, head: ResponseHead) -> bytes:
        """Of a server's answer, as its client gets it."""
        return head.beginning + page_fields(self._gateway.door, self.head)

    def wait(self) -> Hold:
        if self.hold is None:
            self.hold = Hold(self._gateway.loop)
        return self.hold

    # The answer

    def commit(self, head: ResponseHead, length: int | None) -> bool:
        """The answer begins. False: it is not what the client has been told already."""
        if self.hold is not None:
            self.hold.stop_comments()
        if not self.reply.started:
            self.reply.start(head.status, self.beginning_of(head), length)
        elif head.status != 200 or not head.is_event_stream:
            return False
        self.committed = True
        self.notes.first_content = self._gateway.loop.time()
        return True

    @property
    def passes_chunks(self) -> bool:
        """Its client takes them as they come, and nobody wants to know what is in them."""
        return self.reply.is_chunked and not self.notes.captures

    def write(self, content: bytes) -> None:
        self.notes.hear(content)
        self.reply.write(content)

    def answer_whole(self, head: ResponseHead, length: int, content: bytes) -> None:
        """`commit`, `write` and `answered` in one, when nothing was said before."""
        if self.hold is not None:
            self.hold.stop_comments()
        self.committed = True
        self.notes.first_content = self._gateway.loop.time()
        self.notes.hear(content)
        self.reply.send(head.status, self.beginning_of(head), length, content)
        self._answered((content,))

    def server_writable(self, writable: bool) -> None:
        if self._reading_on is not None:
            self._reading_on.server_writable(writable)
        elif self.body.overflows:
            self._client.hold_back(not writable)

    def client_writable(self, writable: bool) -> None:
        if self._visit is not None:
            self._visit.hold_back(not writable)

    # How it ends

    def answered(self, tail: Iterable[bytes]) -> None:
        """Whole. `tail` are the last pieces of it."""
        self.reply.finish()
        self._answered(tail)

    def stopped(self, tail: Iterable[bytes]) -> None:
        """Its client had it ended, by another request: nothing is missing that anybody wants."""
        self.reply.finish()
        self._survived()
        self._over(Outcome.CLIENT_LEFT, tail)

    def waits_for_stream_of(self, conversation: str, policy: KeyPolicy | None) -> bool:
        asked_by = self.policy.id if self.policy else None
        return (
            self.head.text(b"x-conversation-id") == conversation
            and asked_by == (policy.id if policy else None)
            and self.body.hints.stream
            and self.hold is not None
            and self.hold.waits
        )

    def stopped_before_it_began(self) -> None:
        """As its server would end it: a stream without events."""
        if not self.reply.started:
            self.reply.start(200, status_line(200) + EVENT_STREAM + cors_fields(self.origin), None)
        self.reply.finish()
        self._over(Outcome.CLIENT_LEFT)

    def _answered(self, tail: Iterable[bytes]) -> None:
        self._survived()
        if self.reply.status >= 400:
            outcome = Outcome.UPSTREAM_ERROR
        elif self.notes.replays:
            outcome = Outcome.REPLAYED
        else:
            outcome = Outcome.HELD if self.hold is not None and self.hold.total else Outcome.OK
        self._over(outcome, tail)

    def broken(self, problem: Problem, tail: Iterable[bytes]) -> None:
        """In the middle: its client must see that it is not whole."""
        self._break_off(problem)
        self._over(Outcome.UPSTREAM_CRASHED, tail)

    def _break_off(self, problem: Problem) -> None:
        """The answer, or what its client was told while it waited. A stream says why."""
        last_words = b""
        if not self.committed:
            last_words = problem.event(self.head.dialect, self._stream())
        elif self._visit is not None and self._visit.streams:
            # What broke may be an event: it ends here, or it would have ours in it.
            end = b"" if self._visit.is_between_events else b"\n\n"
            last_words = end + problem.event(self.head.dialect, self._stream(self._visit.tail))
        self.reply.break_off(last_words=last_words)

    def _stream(self, tail: Iterable[bytes] = ()) -> Stream:
        notes = self.notes
        model = self.body.hints.model or notes.server
        return Stream(beginning=notes.beginning, end=b"".join(tail), model=model, asked_at=notes.at)

    def _survived(self) -> None:
        """Its server has answered, and lives."""
        if self._visit is not None and self.notes.replays:
            self._visit.survived()
        if self.suspicion is not None:
            self.suspicion.cleared = True
            self._gateway.suspects.acquit(self.body.hash())

    def foreign_answer(self, status: int, content: bytes) -> None:
        """An error of the server, for a client that was told 200 while it waited."""
        self._survived()
        self.refuse(problems.upstream_error(status, content), Outcome.UPSTREAM_ERROR)

    def give_up(self, backend: Backend) -> None:
        """Waiting for this server is hopeless."""
        now, facts = self._gateway.wall_time(), backend.facts
        lasting = facts.needs_a_person(now) or facts.asleep
        problem = problems.unavailable(facts, backend.retry_after(now), lasting=lasting)
        self.refuse(problem, Outcome.UNAVAILABLE)

    def is_not_ready(self, backend: Backend) -> None:
        """Nor does its client wait: it does not want to, or is a stranger and may not fill the queue."""
        retry_after = backend.retry_after(self._gateway.wall_time())
        problem = problems.not_ready(backend.facts, retry_after, to_strangers=self.is_public)
        self.refuse(problem, Outcome.UNAVAILABLE)

    def waited_in_vain(self, backend: Backend) -> None:
        """For as long as it may."""
        retry_after = backend.retry_after(self._gateway.wall_time())
        self.refuse(problems.hold_timeout(backend.facts, retry_after), Outcome.UNAVAILABLE)

    def refuse(self, problem: Problem, outcome: Outcome = Outcome.REFUSED) -> None:
        """Say it in the way that is still open: as an answer, as an event, or by breaking off."""
        if self.is_over:
            return
        if not self.reply.started:
            self._send(problem.status, problem.beginning(self.origin), problem.body(self.head.dialect))
        else:
            self._break_off(problem)
        self._over(outcome)

    def say_nothing(self) -> None:
        """In the middle of a stream: a comment between two events, which no reader of events sees."""
        waits = not self.committed and self.hold is not None and self.hold.waits
        if waits or (self._visit is not None and self._visit.is_between_events):
            self.reply.write(NOTHING)

    def client_left(self) -> None:
        if not self.is_over:
            self._over(Outcome.CLIENT_LEFT)

    def answer(self, status: int, fields: bytes, content: bytes) -> None:
        """With something of our own, which is not recorded. `fields` are header lines."""
        self._send(status, status_line(status) + fields, content)
        self._over(Outcome.OK, recorded=False)

    def _send(self, status: int, beginning: bytes, content: bytes) -> None:
        """Something of our own, all at once."""
        if not self.body.is_whole:
            self.reply.keep_alive = False  # what is left of the body is not worth reading
        self.reply.send(status, beginning, len(content), content)

    def _over(self, outcome: Outcome, tail: Iterable[bytes] = (), *, recorded: bool = True) -> None:
        self.is_over = True
        self.notes.outcome = outcome
        self.notes.tail = tail
        self.notes.ended = self._gateway.loop.time()
        if self.hold is not None:
            self.hold.end()
            self.hold.stop_comments()
        if self._visit is not None:
            if outcome is Outcome.CLIENT_LEFT or outcome is Outcome.UPSTREAM_CRASHED:
                self.notes.tokens = self._visit.tokens
            self._visit.leave()
            self._visit = None  # they know each other: a cycle would wait for the garbage collector
        self._gateway.kept_bytes -= self._kept_bytes
        if self._reading_on is not None:
            self._reading_on.close()
        if not (recorded and self._was_routed):
            self.body.forget()  # where it goes was never asked, nor what it may cost
        if self._was_sent and self.head.changes_models:
            self._gateway.outside.models_changed(self.notes.server)
        self._gateway.finished(self, recorded=recorded)
        self._client.exchange_over()

    @property
    def is_large(self) -> bool:
        """To read what its body says takes so long that others have a turn before and after."""
        return self.body.size > LARGE

    def record(self) -> Record:
        """Make its record, once it is over and has its turn: now its body is read, and forgotten."""
        may_owe = self._was_sent and self.policy is not None and self.head.endpoint.needs_slot
        if self.notes.outcome is Outcome.CLIENT_LEFT and may_owe:
            self.notes.guessed_tokens = self.body.guessed_tokens()
        record = self.notes.record(self)
        self.body.forget()
        return record

    def charged(self, usage: Usage) -> int:
        """Tokens that count for its key."""
        return self.notes.charged(usage)
