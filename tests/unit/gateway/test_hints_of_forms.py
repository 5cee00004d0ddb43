"""Hints of a form: its fields, and the forms that others may read otherwise."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.llama.hints import (
    AMBIGUOUS,
    TOO_LONG,
    Hints,
    hints_of,
    hints_of_beginning,
)

FORM = b"multipart/form-data; boundary=bound"


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


def test_the_fields_before_the_cut_of_a_form_are_read():
    form = MODEL + part(b'name="stream"', b"true")
    found = Hints("whisper", stream=True, doubt=TOO_LONG)
    assert hints_of_beginning(form + AUDIO[:5000], FORM) == found
    assert hints_of_beginning(form + AUDIO + MODEL[:-9], FORM) == found
