"""One attempt, alone: which outcome each answer of a server has, and what its client gets before that."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.llama import unstream
from supervisor_app.gateway.llama.sse import CHAT
from supervisor_app.gateway.servers.assembly import Assembly
from supervisor_app.gateway.servers.attempt import MAX_KEPT, TAIL_PIECES, Attempt, proxy_error_in
from tests.unit.gateway.parts import EVENTS, Connection, Outlet, Server, answer_head, request_head

EVENT = b'data: {"choices":[{"delta":{"content":"a word of many, so that it is no short one"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
GAVE_UP = b'data: {"error":{"code":503,"message":"full"}}\n\n'


class Errand:
    """`errand.Errand`: remembers the outcome. `told`: the client has been told of a stream."""

    def __init__(self, head=None, backend=None, *, told=False, server_lives=True):
        self.head = head or request_head()
        self.backend = backend or Server()
        self.outlet = Outlet()
        self.server_lives = server_lives
        self.outcomes = []
        self.beginning = None
        self.writable = []
        if told:
            self.outlet.reply.start(200, b"HTTP/1.1 200 OK\r\n", None)

    def request_for(self, authority, instead):
        return b"head for " + authority, instead or b"body", True

    def server_writable(self, writable):
        self.writable.append(writable)

    def stream_begins(self):
        self.outcomes.append("a stream begins")

    def commit(self, head, length, beginning=b""):
        if self.outlet.reply.started and not head.is_event_stream:
            return False
        self.beginning = beginning
        return True

    def answered_at_once(self, head, length, content):
        self.outcomes.append(("answered at once", head.status, content))

    def foreign_answer(self, status, content):
        self.outcomes.append(("foreign", status, content))

    def answered(self):
        self.outcomes.append("answered")

    def gave_up(self, status):
        self.outcomes.append(("gave up", status))

    def stopped(self):
        self.outcomes.append("stopped")

    def not_ready(self):
        self.outcomes.append("not ready")

    def refused(self, reason):
        self.outcomes.append(("refused", reason))

    def lost(self, reason):
        self.outcomes.append(("lost", reason))

    def broken(self, reason):
        self.outcomes.append(("broken", reason))

    def ask_plainly(self):
        self.outcomes.append("ask plainly")

    def mistaken(self):
        self.outcomes.append("mistaken")


def sent(errand, connection=None, attempt=None):
    """The attempt, once its request is on the way."""
    attempt = attempt or Attempt(errand)
    errand.backend.kept.append(connection or Connection())
    attempt.start(fresh=False)
    return attempt


def streams(errand, *pieces):
    """The attempt, once so much of a stream has come."""
    attempt = sent(errand)
    attempt.on_head(answer_head(content_type=EVENTS), None)
    for piece in pieces:
        attempt.on_content(piece)
    errand.outcomes.remove("a stream begins")
    return attempt


# --- To the server


def test_a_kept_connection_is_used():
    errand, connection = Errand(), Connection()
    attempt = sent(errand, connection)
    assert connection.asked == [(b"head for server:1", b"body", False, True)]
    assert attempt.is_sent
    assert not errand.backend.connecting


def test_a_request_that_can_be_sent_once_gets_a_fresh_connection():
    errand = Errand(backend=Server(kept=[Connection()]))
    attempt = Attempt(errand)
    attempt.start(fresh=True)
    assert not attempt.is_sent
    fresh = Connection()
    errand.backend.connecting[0].made(fresh)
    assert attempt.is_sent
    assert len(fresh.asked) == 1


def test_the_answer_to_head_has_no_body():
    connection = Connection()
    sent(Errand(request_head("/props", method="HEAD")), connection)
    assert connection.asked[0][2] is True


def test_more_of_the_body_and_back_pressure_reach_the_connection():
    errand, connection = Errand(), Connection()
    attempt = sent(errand, connection)
    attempt.write(b"more")
    attempt.pause_reading(True)
    attempt.on_writable(False)
    assert (connection.written, connection.is_held, errand.writable) == (b"more", True, [False])


def test_an_attempt_that_is_cancelled_leaves_no_connection():
    errand, connection = Errand(), Connection()
    sent(errand, connection).cancel()
    assert connection.is_aborted
    waiting = Attempt(errand)
    waiting.start(fresh=True)
    waiting.cancel()
    assert errand.backend.connecting[0].is_cancelled
    assert errand.outcomes == []


# --- Without an answer


def test_without_a_connection_the_server_has_refused():
    errand = Errand()
    Attempt(errand).start(fresh=True)
    errand.backend.connecting[0].failed("nobody listens")
    assert errand.outcomes == [("refused", "nobody listens")]


def test_a_fresh_connection_that_ends_is_a_loss():
    errand = Errand()
    sent(errand).on_lost("reset")
    assert errand.outcomes == [("lost", "reset")]
    assert not errand.backend.connecting


def test_a_kept_connection_that_ends_is_tried_once_more():
    errand = Errand()
    sent(errand, Connection(used=True)).on_lost("closed")
    assert errand.outcomes == []
    fresh = Connection()
    errand.backend.connecting[0].made(fresh)
    assert len(fresh.asked) == 1


def test_the_server_was_lost_if_nobody_listens_after_that():
    errand = Errand()
    sent(errand, Connection(used=True)).on_lost("closed")
    errand.backend.connecting[0].failed("nobody listens")
    assert errand.outcomes == [("lost", "closed")]


@pytest.mark.parametrize(("is_sent", "outcome"), [(True, "lost"), (False, "refused")])
def test_a_server_that_its_supervisor_ends_is_left(is_sent, outcome):
    errand, attempt = Errand(), None
    if is_sent:
        attempt = sent(errand)
    else:
        attempt = Attempt(errand)
        attempt.start(fresh=True)
    attempt.server_ended("stopping")
    assert errand.outcomes == [(outcome, "stopping")]


def test_a_mistake_of_ours_ends_the_attempt():
    errand = Errand()
    sent(errand).on_mistake()
    assert errand.outcomes == ["mistaken"]


# --- An answer


def test_a_short_answer_is_passed_on_at_once():
    errand = Errand()
    sent(errand).on_whole(answer_head(length=2), 2, b"hi")
    assert errand.outcomes == [("answered at once", 200, b"hi")]
    assert errand.backend.trusted == 1


def test_a_long_answer_is_passed_on_as_it_comes():
    errand = Errand()
    attempt = sent(errand)
    attempt.on_head(answer_head(length=6), 6)
    attempt.on_content(b"abc")
    attempt.on_content(b"def")
    attempt.on_end()
    assert errand.outlet.content == b"abcdef"
    assert errand.beginning == b"abc"
    assert errand.outcomes == ["answered"]


def test_an_answer_without_content_is_an_answer():
    errand = Errand()
    attempt = sent(errand)
    attempt.on_head(answer_head(length=0), 0)
    attempt.on_end()
    assert errand.outcomes == ["answered"]


def test_a_server_that_loads_its_model_has_not_answered():
    errand = Errand()
    sent(errand).on_whole(answer_head(503, length=40), 40, b'{"error":{"message":"Loading model"}}')
    assert errand.outcomes == ["not ready"]
    assert errand.backend.trusted == 0
    assert errand.beginning is None


@pytest.mark.parametrize(
    ("is_router", "outcome"),
    [(True, ("lost", "proxy error: gone")), (False, ("answered at once", 500, b"proxy error: gone"))],
)
def test_only_a_router_says_that_the_process_of_a_model_was_lost(is_router, outcome):
    errand = Errand(backend=Server(is_router=is_router))
    sent(errand).on_whole(answer_head(500, length=17), 17, b"proxy error: gone")
    assert errand.outcomes == [outcome]


def test_an_error_that_is_the_models_own_is_passed_on():
    errand = Errand()
    attempt = sent(errand)
    attempt.on_whole(answer_head(503, length=4), 4, b"full")
    assert errand.outlet.content == b"full"
    assert errand.outcomes == ["answered"]


def test_an_endless_error_is_kept_only_to_a_bound():
    errand = Errand()
    attempt = sent(errand)
    attempt.on_head(answer_head(503), None)
    attempt.on_content(b"x" * MAX_KEPT)
    assert errand.outlet.content == b""
    attempt.on_content(b"y")
    assert errand.outlet.content == b"x" * MAX_KEPT + b"y"


def test_an_answer_that_is_no_stream_is_foreign_to_a_client_that_was_told_of_one():
    errand = Errand(told=True)
    sent(errand).on_whole(answer_head(400, length=3), 3, b"bad")
    assert errand.outcomes == [("foreign", 400, b"bad")]


def test_a_loss_in_the_middle_breaks_the_answer():
    errand = Errand()
    attempt = sent(errand)
    attempt.on_head(answer_head(length=6), 6)
    attempt.on_content(b"abc")
    attempt.on_lost("reset")
    assert errand.outcomes == [("broken", "reset")]


# --- A stream


@pytest.mark.parametrize(("last", "outcome"), [(DONE, "answered"), (GAVE_UP, ("gave up", 503))])
def test_a_stream_is_answered_once_its_end_has_come(last, outcome):
    errand = Errand()
    streams(errand, EVENT, EVENT, last).on_end()
    assert errand.outcomes == [outcome]
    assert errand.outlet.content == EVENT + EVENT + last
    assert errand.backend.moved


def test_a_stream_that_ends_before_its_end_is_broken():
    errand = Errand()
    streams(errand, EVENT).on_end()
    assert errand.outcomes == [("broken", "its stream ended before its end")]


def test_a_stream_without_content_that_ends_is_lost():
    errand = Errand()
    streams(errand, b": hi\n\n").on_end()
    assert errand.outcomes == [("lost", "its stream ended before its end")]


@pytest.mark.parametrize(
    ("server_lives", "outcome"),
    [(True, "stopped"), (False, ("broken", "its stream ended before its end"))],
)
def test_a_stream_with_the_id_of_a_conversation_may_have_been_stopped(server_lives, outcome):
    head = request_head("/v1/chat/completions", "X-Conversation-Id: a")
    errand = Errand(head, server_lives=server_lives)
    streams(errand, EVENT).on_end()
    assert errand.outcomes == [outcome]


def test_comments_before_content_commit_to_nothing_and_are_shown_with_the_head():
    errand = Errand()
    attempt = streams(errand, b": hi\n\n")
    assert errand.beginning is None
    assert attempt.is_between_events
    attempt.flush()
    assert errand.outlet.shown == [b": hi\n\n"]
    attempt.flush()
    assert len(errand.outlet.shown) == 1


def test_the_head_of_an_error_is_never_shown_before_its_content():
    errand = Errand()
    attempt = sent(errand)
    attempt.on_head(answer_head(400), None)
    attempt.flush()
    assert errand.outlet.shown == []


def test_a_stream_that_a_router_breaks_off_is_lost_or_broken():
    before, after = Errand(backend=Server(is_router=True)), Errand(backend=Server(is_router=True))
    streams(before, b"proxy error: gone")
    streams(after, EVENT, b"proxy error: gone")
    assert before.outcomes == [("lost", "proxy error: gone")]
    assert after.outcomes == [("broken", "proxy error: gone")]
    assert after.outlet.content == EVENT


def test_after_the_first_content_chunks_are_passed_on_as_they_came():
    errand, connection = Errand(), Connection()
    attempt = sent(errand, connection)
    attempt.on_head(answer_head(content_type=EVENTS), None)
    attempt.on_content(EVENT)
    assert connection.on_chunk == attempt.on_chunk
    attempt.on_chunk(EVENT, b"framed")
    assert errand.outlet.transport.written == b"framed"
    assert list(attempt.tail) == [EVENT, EVENT]


def test_only_the_end_of_a_long_stream_is_kept():
    attempt = streams(Errand(), *[EVENT] * 20)
    assert list(attempt.tail) == [EVENT] * TAIL_PIECES
    assert attempt.tokens == 20 - CHAT.others


def test_an_error_of_a_router_is_found_only_where_an_event_could_begin():
    assert proxy_error_in(b"data: a\n\nproxy error: gone") == b"proxy error: gone"
    assert proxy_error_in(b"data: proxy error: gone") == b""


# --- Put together from a stream


def assembled(errand, *pieces):
    attempt = Assembly(errand, b"as a stream", unstream.Assembler(unstream.CHAT))
    sent(errand, attempt=attempt)
    attempt.on_head(answer_head(content_type=EVENTS), None)
    for piece in pieces:
        attempt.on_content(piece)
    return attempt


def test_an_answer_that_cannot_be_assembled_is_asked_for_as_the_client_wrote_it():
    errand = Errand()
    assembled(errand, b'data: {"choices":[]}\n\n').on_end()
    assert errand.outcomes == ["ask plainly"]
    assert errand.outlet.content == b""


def test_the_failure_in_a_stream_is_the_answer():
    errand = Errand()
    assembled(errand, b'data: {"error":{"code":400,"message":"bad"}}\n\n').on_end()
    assert errand.outcomes == ["answered"]
    assert b'"bad"' in errand.outlet.content


def test_an_answer_that_is_no_stream_is_passed_on_as_it_is():
    errand = Errand()
    attempt = Assembly(errand, b"as a stream", unstream.Assembler(unstream.CHAT))
    sent(errand, attempt=attempt).on_whole(answer_head(400, length=3), 3, b"bad")
    assert errand.outcomes == [("answered at once", 400, b"bad")]
