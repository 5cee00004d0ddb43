from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_app.gateway.llama.hints import (
    AMBIGUOUS,
    NO_HINTS,
    TOO_LONG,
    Hints,
    hints_of,
    hints_of_beginning,
    hints_of_query,
    prefix_digest,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
FORM = b"multipart/form-data; boundary=bound"


def body_of(**fields):
    return json.dumps(fields).encode()


def user(text):
    return {"role": "user", "content": text}


# JSON


def test_hints_are_model_stream_limit_and_session():
    body = body_of(
        messages=[user("hello")], model="tiny", stream=True, max_tokens=7, prompt_cache_key="chat-1"
    )
    assert hints_of(body, b"application/json") == Hints(
        model="tiny", stream=True, max_tokens=7, session="chat-1"
    )


def test_the_type_that_curl_sends_is_no_obstacle():
    assert hints_of(body_of(model="tiny"), b"application/x-www-form-urlencoded").model == "tiny"


def test_a_hint_inside_of_a_message_is_ignored():
    assert (
        hints_of(body_of(messages=[user('"model":"b","stream":true')], metadata={"model": "c"})) == NO_HINTS
    )


@pytest.mark.parametrize("body", [b'{"model":"a","model":"b"}', b'\xef\xbb\xbf{"mod\\u0065l":"b"}'])
def test_names_are_read_as_the_server_reads_them(body):
    assert hints_of(body).model == "b"


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_tokens": 3}, 3),
        ({"max_tokens": 3, "n_predict": 2}, 2),
        ({"max_tokens": 3, "max_completion_tokens": 4}, 4),
        ({"max_tokens": 3, "n_predict": None}, 3),
        ({"max_output_tokens": 5}, 5),
        ({"max_tokens": 2.7}, 2),
        ({"max_tokens": 3, "n_predict": -1}, None),
        ({"max_tokens": "3"}, None),
        ({"max_tokens": True}, None),
        ({"max_tokens": 10**30}, 2**31 - 1),
        ({}, None),
    ],
)
def test_the_limit_is_the_one_that_the_server_goes_by(fields, limit):
    assert hints_of(body_of(**fields)).max_tokens == limit


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({"n": 4}, 4),
        ({"n": 2.9}, 2),
        ({"n": 4, "n_cmpl": 2}, 2),
        ({"n": 4, "n_cmpl": None}, 4),
        ({"n": 4, "model": 7}, 4),
        ({"n": 10**30}, 2**31 - 1),
        ({"n": 0}, 1),
        ({"n": -1}, 1),
        ({"n": None}, 1),
        ({"n": "4"}, 1),
        ({"n": True}, 1),
        ({}, 1),
    ],
)
def test_the_number_of_answers_is_read_as_the_server_reads_it(fields, answers):
    assert hints_of(body_of(**fields)) == Hints(answers=answers)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("one", 1),
        (["one", ""], 2),
        ([1, 2, 3], 1),
        ([1, "one"], 1),
        (["one", 1, "two"], 1),
        ([[1, 2], [3]], 2),
        (["one", [1, "two"], {"prompt_string": "three"}], 3),
        ({"prompt_string": "one"}, 1),
        ([], 1),
        (["one", None], 1),
        (None, 1),
    ],
)
def test_prompts_are_counted_as_the_server_takes_them(prompt, prompts):
    assert hints_of(body_of(prompt=prompt)) == Hints(prompts=prompts)
    assert hints_of(body_of(prompt=prompt, n=2, model=7)) == Hints(answers=2, prompts=prompts)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": 7, "stream": "yes", "max_tokens": [], "session_id": {}},
        {"model": {"id": "a"}, "stream": 1, "prompt_cache_key": None},
        {"model": "m" * 2000},
    ],
)
def test_a_wrong_type_is_ignored(fields):
    assert hints_of(body_of(**fields)) == NO_HINTS


def test_a_wrong_type_does_not_hide_the_others():
    assert hints_of(body_of(model="tiny", max_tokens="many", messages=7)) == Hints(model="tiny")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model":"a"',
        b'{"model":"a"} x',
        b'["model"]',
        b'{"model":"a\xff"}',
        b'{"model":"\\ud800"}',
        b'{"model":"a","x":' + b'{"x":' * 5000 + b"1" + b"}" * 5001,
        b"\x00\xff",
    ],
)
def test_a_body_that_cannot_be_read_gives_no_hints(body):
    assert hints_of(body) == NO_HINTS
    assert prefix_digest(body) is None


# Query


@pytest.mark.parametrize(
    ("query", "model"),
    [
        ("model=tiny", "tiny"),
        ("a=b&model=t%69ny+2", "tiny 2"),
        ("model=", None),
        ("supermodel=a", None),
        ("", None),
    ],
)
def test_a_query_names_the_model(query, model):
    assert hints_of_query(query) == Hints(model)


@pytest.mark.parametrize(
    "query",
    [
        "model=a&model=b",
        "model=a&model=b&model=a",
        "model=a&mod%65l=b",
        "model=b#&model=a",
        "model=b&model=",
        "model=a&%u006dodel=b",
    ],
)
def test_a_body_that_servers_read_differently_is_in_doubt(query):
    assert hints_of_query(query).doubt == AMBIGUOUS


# Forms


def part(head, value):
    return b"--bound\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + value + b"\r\n"


AUDIO = part(b'name="file"; filename="name=model; .wav"', b'--b\r\n\r\nname="model"\r\n' * 1000)
MODEL = part(b'name="model"', b"whisper")
END = b"--bound--\r\n"


@pytest.mark.parametrize("parts", [AUDIO + MODEL, MODEL + AUDIO])
def test_a_form_names_its_model(parts):
    assert hints_of(parts + END, FORM) == Hints("whisper")


def test_a_name_needs_no_quotes():
    assert hints_of(part(b"name=model", b"whisper") + END, FORM).model == "whisper"


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="file"; filename="a b.wav"\r\nContent-Type: audio/wav',
        b"content-type: audio/wav\r\ncontent-disposition: form-data; "
        b'name="file"; filename="a.wav"; filename*=UTF-8\'\'%c3%a4.wav',
        b'Content-Disposition: form-data; name="timestamp_granularities[]"\r\nContent-Length: 4',
    ],
)
@pytest.mark.parametrize("form", [FORM, b'multipart/form-data; boundary="bound"'])
def test_bodies_of_usual_clients_are_not_in_doubt(head, form):
    assert hints_of(MODEL + b"--bound\r\n" + head + b"\r\n\r\nword\r\n" + END, form) == Hints("whisper")


NOTE = part(b'name="note"', b"x")


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (MODEL + NOTE * 64 + END, FORM),
        (part(b'name="x\\"', b"1") + MODEL + END, FORM),
        (part(b'name="x"\r\nContent-Disposition: form-data; name="y"', b"1") + MODEL + END, FORM),
        (MODEL + part(b'name="x"\r\nX-Long: %b' % (b"x" * 5000), b"1") + END, FORM),
        (MODEL + b"--bound2\r\n\r\n\r\n" + END, FORM),
        (b"preamble\r\n" + MODEL + END, FORM),
        (MODEL + END + MODEL, FORM),
        (MODEL, FORM),
        (MODEL + END, b"multipart/form-data; xboundary=a; boundary=bound"),
        (MODEL + END, b"Multipart/Form-Data; boundary=bound"),
    ],
)
def test_a_form_that_others_may_read_otherwise_is_in_doubt(body, form):
    assert hints_of(body, form).doubt == AMBIGUOUS


def test_a_form_asks_for_a_stream():
    assert hints_of(part(b'name="stream"', b"true") + b"--bound--", FORM).stream
    assert not hints_of(part(b'name="stream"', b"false") + b"--bound--", FORM).stream


def test_other_headers_of_a_part_name_nothing():
    head = b'--bound\r\nX-Note: a; name="no"\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper'
    assert (
        hints_of(head + b"\r\n--bound--", b'Multipart/Form-Data; charset=x; boundary="bound"').model
        == "whisper"
    )


@pytest.mark.parametrize(
    "body",
    [
        part(b'name="model"', b"a") + part(b'name="model"', b"b") + b"--bound--",
        part(b'name="model"', b"a") + part(b'name="model"', b"m" * 2000) + b"--bound--",
        part(b'name="model"', b"m" * 2000) + b"--bound--",
        part(b'name="model"; filename="m"', b"a") + b"--bound--",
        part(b'name="model"', b"not at its end")[:-2],
        part(b'name="x"', b"1") * 64 + part(b'name="model"', b"too late") + b"--bound--",
        b'--bound\r\nname="model"\r\n\r\na\r\n--bound--',
        b"--bound",
        b"garbage",
    ],
)
def test_a_form_that_names_no_model_for_certain_names_none(body):
    assert hints_of(body, FORM).model is None


def test_a_form_without_a_boundary_has_no_parts():
    assert hints_of(part(b'name="model"', b"a") + b"--bound--", b"multipart/form-data").model is None


# The beginning of a body


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=4), JSON, st.booleans(), st.data())
def test_in_a_prefix_the_model_is_found_as_soon_as_it_is_whole(others, model, ascii_only, data):
    others.pop("model", None)
    before = data.draw(st.integers(0, len(others)))
    fields = list(others.items())
    fields.insert(before, ("model", model))
    body = json.dumps(dict(fields), ensure_ascii=ascii_only).encode()
    known = len(json.dumps(dict(fields[: before + 1]), ensure_ascii=ascii_only).encode()) - 1
    prefix = body[: data.draw(st.integers(0, len(body)))]
    expected = model if isinstance(model, str) and len(prefix) >= known else None
    assert hints_of_beginning(prefix).model == expected


@pytest.mark.parametrize(
    "prefix",
    [
        b'{"messages":[{"role":"user","content":"\\"model\\":\\"b\\"',
        b'{"messages":[{"model":"b"}',
        b'{"metadata":{"model":"b"},',
        b'{"a":"model","b":"c"',
        b'{"model":7,"name":"b"',
        b'{"model":["b"]',
        b'{"model"',
        b'{"model" : "b',
        b'{"content":"cut \\"model\\":\\"b\\"',
        b'{"content":"cut "model":"b"',
        b'{"model":"\\ud800"}',
        b'"model":"b"',
        b"",
    ],
)
def test_only_a_model_at_the_top_level_counts(prefix):
    assert hints_of_beginning(prefix).model is None


def test_an_escaped_key_is_the_same_key():
    prefix = b' { "a" : [ "}" ] , "mod\\u0065l" : "ti\\"ny" , "messages": ['
    assert hints_of_beginning(prefix).model == 'ti"ny'


@pytest.mark.parametrize(
    ("prefix", "stream"),
    [
        (b'{"stream":true,"messages":[', True),
        (b'{"messages":[{"stream":false}], "stream" : true', True),
        (b'{"model":"a","stream":tr', False),
        (b'{"stream":false,"messages":[', False),
        (b'{"stream":"true","messages":[', False),
        (b'{"options":{"stream":true},"messages":[', False),
        (b'{"stream"', False),
    ],
)
def test_in_a_prefix_the_top_level_stream_is_found(prefix, stream):
    assert hints_of_beginning(prefix).stream is stream


def test_hints_are_looked_for_only_to_a_bound():
    far = b'{"messages":[' + b"[]," * 200_000 + b'0],"model":"a"'
    assert hints_of_beginning(far).model is None


def test_the_fields_before_the_cut_of_a_form_are_read():
    form = MODEL + part(b'name="stream"', b"true")
    found = Hints("whisper", stream=True, doubt=TOO_LONG)
    assert hints_of_beginning(form + AUDIO[:5000], FORM) == found
    assert hints_of_beginning(form + AUDIO + MODEL[:-9], FORM) == found


def test_a_model_in_the_beginning_of_a_body_is_in_doubt():
    assert hints_of_beginning(b'{"model":"a","x":"').doubt == TOO_LONG
    assert hints_of_beginning(b"").doubt == TOO_LONG


# Conversations


TURN = st.sampled_from(["user", "assistant", "tool"]).flatmap(
    lambda role: st.fixed_dictionaries({"role": st.just(role), "content": st.text()})
)


@given(st.text(), st.text(), st.lists(TURN, max_size=5), st.integers(0, 9))
def test_messages_at_the_end_do_not_change_the_digest(system, question, turns, temperature):
    first = [{"role": "system", "content": system}, user(question)]
    begun = prefix_digest(body_of(messages=first))
    assert begun is not None
    assert prefix_digest(body_of(temperature=temperature, messages=first + turns, stream=True)) == begun


@pytest.mark.parametrize(
    "other",
    [
        {"messages": [user("b")]},
        {"messages": [{"role": "system", "content": "s"}, user("a")]},
        {"system": "s", "messages": [user("a")]},
        {"instructions": "s", "input": [user("a")]},
        {"input": "a"},
        {"prompt": "b"},
        {"prompt": [1, 2]},
        {"prompt": ["a", "b"]},
    ],
)
def test_another_conversation_has_another_digest(other):
    digest = prefix_digest(body_of(**other))
    assert digest is not None
    assert len(digest) == 8
    assert digest != prefix_digest(body_of(messages=[user("a")]))


def test_marks_on_a_message_do_not_change_the_digest():
    plain = user([{"type": "text", "text": "hello"}])
    marked = user([{"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}])
    later = [plain, {"role": "assistant", "content": [{"type": "text", "text": "hi"}]}, marked]
    assert prefix_digest(body_of(messages=[marked])) == prefix_digest(body_of(messages=later))


def test_a_prompt_that_grows_keeps_its_digest():
    begun = "x" * 1024
    assert prefix_digest(body_of(prompt=begun)) == prefix_digest(body_of(prompt=begun + "y"))


def test_messages_of_a_wrong_shape_have_a_digest_all_the_same():
    bodies = [{"messages": [7, "a"]}, {"messages": [{"role": 1}]}, {"messages": {"a": 1}}]
    assert len({prefix_digest(body_of(**body)) for body in bodies}) == 3


def test_a_body_without_a_conversation_has_no_digest():
    assert prefix_digest(b'{"content":"tokenize this"}') is None
