"""The quick look for secrets finds every line that the slow one changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_app.common.redact import HIDDEN, redact
from supervisor_app.logs.hidden import Hider

PIECES = st.sampled_from(
    (
        *(
            "token",
            "Api_Key",
            "api-key",
            "secret",
            "passwd",
            "authorization",
            "Bearer",
            "-hft",
            "--",
            "-",
            "=",
        ),
        *(":", " ", "\t", '"', "'", "://", "@", "https", "?", "&", "sig", "key", "auth", "sk-", "hf_", "lp-"),
        *("ghp_", "xoxb-", "AKIA", "A" * 16, "AIza", "b" * 30, "eyJ", "abcdefgh", ".", ",", "5", "12.5", "%"),
        *(";", "}", "x", "_", "ſ", "\u00a0", "K", "swordfish", "\x1c", "\n", "é"),
    )
)


@settings(max_examples=600, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_no_line_that_would_be_changed_is_missed(line):
    assert Hider(("swordfish",)).hide(line) == redact(line, ("swordfish",))


@pytest.mark.parametrize(
    "line",
    [
        "slot update_slots: id  0 | task 5 | new prompt, n_ctx_slot = 4096, task.n_tokens = 12",
        "task_update_slots_of_something_long",
        "prompt eval time =     12.01 ms /     4 tokens (    3.00 ms per token,   333.06 tokens per second)",
    ],
)
def test_usual_lines_are_not_looked_at_twice(line):
    assert not Hider(("swordfish",)).may_hide(line.encode())


def test_lines_of_a_block_in_which_something_may_be_hidden():
    block = b"one\ntoken: abc\ntwo\nthe key is swordfish, swordfish\n"
    assert list(Hider(("swordfish",)).suspects(block)) == [4, 19]


def test_a_secret_with_signs_of_patterns_is_taken_as_it_is():
    assert Hider(("a.c+(",)).hide("xx a.c+( abc") == f"xx {HIDDEN} abc"


def test_a_secret_that_is_too_short_hides_nothing():
    assert Hider(("id",)).hide("id 5") == "id 5"
