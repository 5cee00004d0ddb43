"""The outline of a body says what the whole says, however it comes in pieces."""

from __future__ import annotations

import json
import random

import pytest

from supervisor_app.gateway.llama import outline
from supervisor_app.gateway.llama.forms import read_form
from supervisor_app.gateway.llama.hints import hints_of
from supervisor_app.gateway.llama.outline import CUT, TOO_MUCH, OutlineError, outline_for

FORM = b"multipart/form-data; boundary=bound"
LONG = "x" * 5000


def outlined(body, content_type=b"application/json", size=None):
    """`size` of the pieces; None: of any size."""
    chance = random.Random(len(body))
    made, at = outline_for(content_type), 0
    while at < len(body):
        end = at + (size or chance.randint(1, 40))
        made.feed(body[at:end])
        at = end
    return made.end()


BODIES = [
    {"messages": [{"role": "user", "content": LONG}], "stream": True, "max_tokens": 5, "model": "last"},
    {"model": "first", "messages": [[{"model": "deep"}] * 100], "n": 2},
    {"a": {"model": "deep", "b": [{"c": '}]"{['}]}, "model": 'quo"te \\ ü \U0001f999', "session_id": "s"},
    {"input": LONG, "model": "x" * 250},
    {LONG: 1, "model": "m", "temperature": -1.5e-7, "stop": None, "x": [1, 2, [3, [4]]], "n_predict": 7},
    {},
    {"model": None},
    ["model", "x"],
    "model",
]


@pytest.mark.parametrize("size", [1, 2, 7, None, 10**6])
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("ascii", [True, False])
def test_json_says_the_same(body, size, ascii):
    whole = json.dumps(body, ensure_ascii=ascii).encode()
    assert hints_of(outlined(whole, size=size)) == hints_of(whole)
    assert len(outlined(whole, size=size)) < 2000


@pytest.mark.parametrize("size", [1, 3, 10**6])
@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "a", "pad": "%b", "model": "b"}' % LONG.encode(),
        b'{"mod\\u0065l": "a\\"b\\\\", "x": "\\\\"}',
        b'\xef\xbb\xbf{"model": "a"} ',
        b'{"x": "%b\\", \\"model\\": \\"inside\\"", "model": "outside"}' % LONG.encode(),
    ],
)
def test_json_as_nobody_writes_it_says_the_same(body, size):
    assert hints_of(outlined(body, size=size)) == hints_of(body)


@pytest.mark.parametrize("body", [b'{"model": "a"', b'{"model": "a', b'{"a": [1, {', b'{"a": "\\', b"["])
def test_json_that_was_cut_off_is_told_from_json_that_is_whole(body):
    with pytest.raises(OutlineError, match=CUT):
        outlined(body, size=1)


@pytest.mark.parametrize("body", [b'{"a": 1]}]}', b'{"a" 1}', b"nonsense", b'{"a": "b" "c"}'])
def test_a_text_that_is_no_json_does_not_become_json(body):
    with pytest.raises(json.JSONDecodeError):
        json.loads(outlined(body, size=2))


@pytest.mark.parametrize(("limit", "value"), [("MAX_OUTLINE", 1000), ("MAX_TOKENS", 1000)])
def test_an_outline_of_too_many_fields_is_given_up(monkeypatch, limit, value):
    monkeypatch.setattr(outline, limit, value)
    body = json.dumps({f"key {number}": number for number in range(2000)}).encode()
    with pytest.raises(OutlineError, match="put `model` first"):
        outlined(body)
    assert str(OutlineError(TOO_MUCH)) == TOO_MUCH


def part(name, content, *more):
    disposition = b'Content-Disposition: form-data; name="%b"%b' % (name, b"".join(more))
    return b"--bound\r\n" + disposition + b"\r\n\r\n" + content + b"\r\n"


FILE = b'; filename="a.wav"'
SOUND = b"\r\n--boun\r\n\r\n" * 2000
FORMS = [
    part(b"file", SOUND, FILE) + part(b"model", b"last") + b"--bound--\r\n",
    part(b"model", b"first") + part(b"file", SOUND, FILE) + b"--bound--",
    part(b"model", b"a") + part(b"pad", SOUND) + part(b"model", b"b") + b"--bound--\r\n",
    part(b"model", b"") + part(b"stream", b"true") + b"--bound--\r\nepilogue",
    b"preamble" + part(b"model", b"a") + b"--bound--\r\n",
    LONG.encode() + part(b"model", b"a") + b"--bound--\r\n",
    part(b"model", LONG.encode()) + b"--bound--\r\n",
]


@pytest.mark.parametrize("size", [1, 2, 11, None, 10**6])
@pytest.mark.parametrize("body", FORMS, ids=range(len(FORMS)))
def test_a_form_says_the_same(body, size):
    made = outlined(body, FORM, size)
    assert read_form(made, FORM) == read_form(body, FORM)
    assert hints_of(made, FORM) == hints_of(body, FORM)
    assert len(made) < 4000


@pytest.mark.parametrize(
    "body", [b"", part(b"model", b"a"), part(b"model", b"a") + b"--bou", b"--bound\r\nHead"]
)
def test_a_form_that_was_cut_off_is_told_from_one_that_is_whole(body):
    with pytest.raises(OutlineError, match=CUT):
        outlined(body, FORM, 1)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (part(b"x", b"") * 100 + b"--bound--", FORM),
        (b"--bound\r\n" + b"x" * 10_000, FORM),
        (b"--bound--", b"multipart/form-data"),
    ],
    ids=["parts", "head", "no boundary"],
)
def test_a_form_with_too_much_in_it_is_given_up(body, content_type):
    with pytest.raises(OutlineError, match="put `model` first"):
        outlined(body, content_type)
