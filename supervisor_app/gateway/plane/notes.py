"""Notes on one request on its way, and the record that is made of them in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from supervisor_app.gateway.llama.meter import usage_of, usage_of_all
from supervisor_app.gateway.records.record import Outcome, Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.gateway.access.keys import KeyPolicy
    from supervisor_app.gateway.http.reply import Reply
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.llama.usage import Usage
    from supervisor_app.gateway.plane.body import RequestBody
    from supervisor_app.gateway.servers.hold import Hold

CAPTURED_BYTES = 64 * 1024
"""Bytes of each body, and of each head."""

UNTOLD = (Outcome.CLIENT_LEFT, Outcome.CANCELLED)
"""Ends before the server could say what the prompt cost."""


class NotedAnswer(Protocol):
    """The answer of a request, as far as its record quotes it."""

    reply: Reply
    hold: Hold | None


class Noted(Protocol):
    """A request, as far as its record quotes it."""

    id: str
    started: float
    policy: KeyPolicy | None

    @property
    def head(self) -> RequestHead: ...

    @property
    def body(self) -> RequestBody: ...

    @property
    def answer(self) -> NotedAnswer: ...


class Notes:
    """Times are the event loop's, in seconds, except `at`."""

    __slots__ = (
        "_captured",
        "at",
        "beginning",
        "denied_key",
        "ended",
        "error_status",
        "first_content",
        "guessed_tokens",
        "is_kept",
        "outcome",
        "replays",
        "run_name",
        "server",
        "tail",
        "tokens",
        "was_sent",
    )

    def __init__(self, at: float) -> None:
        self.at = at
        """Unix seconds at which the head of the request had come."""
        self.server = ""
        self.denied_key: int | None = None
        """Id of the API key of a request that was not let in."""
        self.is_kept = True
        """The record is worth a row; False: the request came without a valid key where one is needed."""
        self.run_name = ""
        self.was_sent = False
        """A server has had the request: no later stage undoes that."""
        self.replays = 0
        self.first_content = 0.0
        self.beginning = b""
        """First bytes of the answer: some say there what the prompt cost."""
        self.tail: Iterable[bytes] = ()
        """Last pieces of the answer."""
        self.tokens: int | None = None
        """Tokens of a stream that came: known although its end was never seen."""
        self.guessed_tokens = 0
        """Tokens of the prompt, if the client left before the server said how many."""
        self.error_status = 0
        """Status of the error of its server in which a stream ended; 0: in none."""
        self.outcome = Outcome.OK
        self.ended = 0.0
        self._captured: bytearray | None = None

    @property
    def captures(self) -> bool:
        """The API key asks for what is said to be kept."""
        return self._captured is not None

    def capture(self) -> None:
        """Keep what is said, from now on."""
        self._captured = bytearray()

    def add_content(self, content: bytes) -> None:
        """Keep more of the answer, if the API key asks for that."""
        if self._captured is not None:
            self._captured += content[: CAPTURED_BYTES - len(self._captured)]

    def record(self, request: Noted) -> Record:
        """Make the record of a request that is over."""
        first, captured, head = self.first_content, self._captured, request.head
        hints, hold, policy = request.body.hints, request.answer.hold, request.policy
        if self.outcome in UNTOLD and self.was_sent and policy is not None and head.operation.needs_slot:
            self.guessed_tokens = request.body.guessed_tokens()
        usage = usage_of(b"".join(self.tail), self.beginning)
        if hints.answers != 1 or hints.prompts != 1:
            usage = usage_of_all(usage, head.operation, hints, self.tokens)
        return Record(
            at=self.at,
            server=self.server,
            model=hints.model or "",
            key=policy.id if policy else self.denied_key,
            method=head.method,
            route=head.path,
            status=self.error_status or request.answer.reply.status,
            outcome=self.outcome,
            streamed=hints.stream,
            held_ms=hold.total * 1000 if hold is not None else 0.0,
            room_ms=hold.room * 1000 if hold is not None else 0.0,
            load_ms=hold.load * 1000 if hold is not None else 0.0,
            ttft_ms=(first - request.started) * 1000 if first else None,
            duration_ms=(self.ended - request.started) * 1000,
            replays=self.replays,
            counts_as_use=head.operation.counts_as_use,
            usage=usage,
            id=request.id,
            run_name=self.run_name,
            is_kept=self.is_kept,
            captured_request=None if captured is None else _text(request.body.kept()),
            captured_answer=None if captured is None else _text(bytes(captured)),
            captured_request_head=None if captured is None else _text(head.as_written()),
            captured_answer_head=None if captured is None else _text(request.answer.reply.head),
        )

    def charged(self, usage: Usage) -> int:
        """Tokens that the API key has used up; a count that the server did not give is guessed."""
        prompt, generated = usage.prompt_tokens, usage.generated_tokens
        if prompt is None:
            prompt = self.guessed_tokens
        if generated is None:
            generated = self.tokens or 0
        return prompt + generated


def _text(data: bytes) -> str:
    return data[:CAPTURED_BYTES].decode("utf-8", "replace").replace("\0", "\ufffd")
