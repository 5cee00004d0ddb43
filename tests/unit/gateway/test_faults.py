"""What is wrong with a body that names no model."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.llama.faults import fault_of

FORM = b"multipart/form-data; boundary=bound"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b' {"model": null}',
        b'{"messages": []}',
        b'{"model": ""}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"x":' * 2000,
    ],
)
def test_a_body_that_only_names_no_model_has_no_fault(body):
    assert fault_of(body, b"application/json") == ""


@pytest.mark.parametrize("content_type", [b"application/json", b"text/plain", b""])
@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b'{"messages": [{"role"', "The body is not JSON"),
        (b'{"model": "a"} x', "The body is not JSON"),
        (b"model=a", "The body is not JSON"),
        (b'{"a": "\xff"}', "The body is not JSON"),
        (b" ", "The body is not JSON"),
        (b"[]", "The body must be a JSON object."),
        (b'"model"', "The body must be a JSON object."),
        (b"null", "The body must be a JSON object."),
        (b'{"model": 5}', "`model` must be text."),
        (b' {"model": ["a"]}', "`model` must be text."),
    ],
)
def test_the_fault_of_an_unreadable_body_is_told(body, fault, content_type):
    assert fault_of(body, content_type).startswith(fault)


def test_a_form_that_ends_too_soon_is_said():
    whole = b'--bound\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--bound--\r\n'
    assert fault_of(whole, FORM) == ""
    assert fault_of(whole[:-4], FORM) == "The form ends before its last boundary."
    assert fault_of(whole[:30], FORM) == "The form ends before its last boundary."
