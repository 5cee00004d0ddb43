"""What a request tells of itself, by its body or its query, and when that is certain."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.http.request_heads import read_request
from supervisor_app.gateway.llama.hints import AMBIGUOUS, NO_HINTS, NOT_IN_BODY, TOO_LONG, Hints
from supervisor_app.gateway.plane.body import RequestBody


def body_of(content=b"", target="/tokenize", method="POST", *, length=None, whole=True):
    """As it is when so much of it has come; `length`: more will."""
    announced = len(content) if length is None else length
    head, _ = read_request(
        f"{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {announced}\r\n\r\n".encode()
    )
    body = RequestBody(head, announced)
    if content:
        body.keep(content)
    body.size, body.is_whole = len(content), whole
    return body


def test_the_body_goes_before_the_query():
    assert body_of(b'{"model":"a"}', "/tokenize?model=b").hints == Hints("a")


@pytest.mark.parametrize("content", [b'{"content":"hi"}', b"", b"no JSON"])
def test_where_the_body_names_no_model_the_query_tells_where_to_go(content):
    assert body_of(content, "/tokenize?model=b").hints == Hints("b", doubt=NOT_IN_BODY)


def test_other_hints_of_the_body_are_kept():
    hints = body_of(b'{"stream":true,"max_tokens":3}', "/completion?model=b").hints
    assert hints == Hints("b", stream=True, max_tokens=3, doubt=NOT_IN_BODY)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_only_a_post_names_its_model_in_the_body(method):
    assert body_of(b"", "/props?model=b", method).hints == Hints("b")
    assert body_of(b'{"model":"a"}', "/props?model=b", method).hints == Hints("b", doubt=AMBIGUOUS)
    assert body_of(b'{"model":"a"}', "/props", method).hints.model is None


def test_a_request_without_body_and_query_tells_nothing():
    assert body_of(method="GET").hints == NO_HINTS


def test_the_beginning_of_a_body_is_read_while_more_comes():
    content = b'{"model":"a","stream":true,"messages":["'
    body = body_of(content, "/tokenize?model=b", length=9000, whole=False)
    assert body.hints == Hints("a", stream=True, doubt=TOO_LONG)


def test_the_query_may_name_the_model_while_more_of_the_body_comes():
    body = body_of(b'{"messages":["', "/tokenize?model=b", length=9000, whole=False)
    assert body.hints == Hints("b", doubt=TOO_LONG)


def test_a_body_that_is_all_there_is_certain_although_it_is_not_to_be_kept():
    body = body_of(b'{"model":"a","model":"b"}', whole=False)
    body.overflow()
    assert body.hints == Hints("b")


def test_hints_are_read_before_the_body_is_shortened():
    body = body_of(b'{"prompt":"%b","model":"a","stream":true}' % (b"x" * 1000))
    body.shorten(100)
    assert len(body.kept()) == 100
    assert body.hints == Hints("a", stream=True)


def test_a_shortened_body_keeps_its_hash():
    body = body_of(b'{"model":"a"}')
    known_by = body.hash()
    body.shorten(5)
    assert body.hash() == known_by != body_of(b'{"mod').hash()


def test_hints_that_were_read_outlive_the_body():
    body = body_of(b'{"prompt":"%b","model":"a","stream":true}' % (b"x" * 1000))
    assert body.hints == Hints("a", stream=True)
    known_by = body.hash()
    body.forget()
    assert body.kept() == b""
    assert body.hints == Hints("a", stream=True)
    assert body.hash() == known_by


def test_hints_that_were_not_read_are_gone_with_the_body():
    body = body_of(b'{"model":"a"}')
    body.forget()
    assert body.hints == Hints()
