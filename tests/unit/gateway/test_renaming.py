"""The model's name in answers, as the client asked for it."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.llama.renaming import Renaming

OWN = ("qwen", "/m/ä.gguf")


def renamed(*pieces, name="brief"):
    renaming = Renaming(name, lambda: OWN)
    return b"".join([*map(renaming.feed, pieces), renaming.end()])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'{"a":1,"model":"qwen","b":2}', b'{"a":1,"model":"brief","b":2}'),
        ('{"model":"/m/ä.gguf"}'.encode(), b'{"model":"brief"}'),
        (b'{"model":"\\/m\\/\\u00e4.gguf"}', b'{"model":"brief"}'),
        (b'data: {"message":{"model":"qwen"}}\n\n' * 2, b'data: {"message":{"model":"brief"}}\n\n' * 2),
        (b'{"model":"","model":"qwen"}', b'{"model":"","model":"brief"}'),
    ],
)
def test_each_name_of_the_server_s_own_is_replaced_wherever_the_answer_is_cut(answer, expected):
    assert renamed(answer) == expected
    for at in range(1, len(answer)):
        assert renamed(answer[:at], answer[at:]) == expected
    assert renamed(*(answer[at : at + 1] for at in range(len(answer)))) == expected


@pytest.mark.parametrize(
    "answer",
    [
        b'{"content":"say \\"model\\":\\"qwen\\"","n":1}',  # within a text
        b'{"input":{"model":"corolla"}}',
        b'{"models":"qwen","model":null,"model":["qwen"]}',
        b'{"model":"\\ud800"}',
        b'{"a":"","model":"qw',
        b'"',
    ],
)
def test_all_else_is_left_as_it_is(answer):
    assert renamed(answer) == answer
    assert renamed(*(answer[at : at + 1] for at in range(len(answer)))) == answer


def test_no_event_is_kept_back():
    renaming = Renaming("brief", lambda: OWN)
    event = b'data: {"choices":[{"delta":{"content":"\\"model"}}],"model":"qwen"}\n\n'
    assert renaming.feed(event) == event.replace(b'"qwen"', b'"brief"')


def test_only_so_much_of_a_name_without_an_end_is_kept_back_as_is_needed():
    renaming = Renaming("brief", lambda: OWN)
    text = b'{"model":"' + b"x" * 10_000
    assert renaming.feed(text) == text


def test_a_name_is_written_as_json_has_it():
    assert renamed(b'{"model":"qwen"}', name='a"b') == b'{"model":"a\\"b"}'
