"""Secrets do not reach the eyes of people, and ordinary lines stay readable."""

from __future__ import annotations

import pytest

from supervisor_app.core.redact import HIDDEN, redact


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        ("Authorization: Bearer abcdef123", f"Authorization: Bearer {HIDDEN}"),
        ("got bearer abc", f"got bearer {HIDDEN}"),
        ('{"api_key": "abc", "n": 1}', f'{{"api_key": "{HIDDEN}", "n": 1}}'),
        ("API-KEY=abc&x=1", f"API-KEY={HIDDEN}&x=1"),
        ("password: hunter2", f"password: {HIDDEN}"),
        ("using sk-abcdefghijkl for it", f"using {HIDDEN} for it"),
        ("hf_abcdefghijklmn", HIDDEN),
        # Not secrets: what llama-server says all the time.
        ("srv operator(): unauthorized: Invalid API Key", "srv operator(): unauthorized: Invalid API Key"),
        ("n_tokens = 512, eos token = 2, token: 13.5%", "n_tokens = 512, eos token = 2, token: 13.5%"),
        ("slot 0 | task 5 | prompt eval time = 3 ms", "slot 0 | task 5 | prompt eval time = 3 ms"),
    ],
)
def test_by_shape(line, clean):
    assert redact(line) == clean


def test_by_value():
    assert redact("key is swordfish.", ["swordfish", "", "is"]) == f"key is {HIDDEN}."
