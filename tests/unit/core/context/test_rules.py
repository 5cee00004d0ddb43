"""What is saved of conversations, what may be restored, what was of use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.context.rules import (
    KEEP_SECONDS,
    MOST_SLOTS,
    SlotSeen,
    Use,
    flags_that_matter,
    judge,
    why_not,
    why_not_restored,
    why_not_saved,
    worth_saving,
)
from supervisor_app.core.context.saved import Basis, Kept, SavedContext, SavedSlot
from supervisor_app.core.context.words import said_of_no_use, said_of_restoring, said_of_saving

BASIS = Basis(model="m", flags="f", build="b1", changed_at=5.0, boot="1")
SAVED = SavedContext(
    basis=BASIS, saved_at=1000.0, slots=(SavedSlot(id=0, file="slot-0.bin", tokens=900, bytes=9),)
)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--models-dir", "models"], "router"),
        (["-m", "x", "--slot_save_path", "/tmp"], "its own flags"),
        (["-m", "x", "--embeddings"], "embeds"),
        (["-m", "x", "--mmproj", "p.gguf"], "sees"),
        (["-m", "x", "--no-slots"], "--no-slots"),
        (["-m", "x", "--no-cache-prompt"], "--no-cache-prompt"),
    ],
)
def test_a_server_that_cannot_keep_conversations_says_why(args, reason):
    assert reason in why_not(args)


def test_any_other_server_keeps_its_conversations():
    assert why_not(["-m", "x.gguf", "-c", "8192", "-np", "2", "--slots"]) == ""


def test_flags_of_the_door_do_not_matter():
    door = ["--host", "0.0.0.0", "--port", "1", "--slot-save-path", "/a", "--api_key", "k"]
    assert flags_that_matter(["-m", "x", *door, "-c", "512"]) == ["-m", "x", "-c", "512"]


def slot(number, tokens=100, *, busy=False, task=0):
    return SlotSeen(id=number, busy=busy, tokens=tokens, task=task)


def test_idle_slots_are_saved_the_last_used_first():
    assert worth_saving([slot(0, task=3), slot(1, task=9)]) == [slot(1, task=9), slot(0, task=3)]


@pytest.mark.parametrize("not_worth", [slot(0, busy=True), slot(0, 0), slot(0, 31)])
def test_busy_empty_and_short_slots_are_not_saved(not_worth):
    assert worth_saving([not_worth]) == []


def test_a_slot_that_does_not_tell_may_hold_what_was_restored():
    assert worth_saving([slot(0, None)]) == [slot(0, None)]


def test_no_more_slots_are_saved_than_allowed():
    assert len(worth_saving([slot(number) for number in range(40)])) == MOST_SLOTS


def test_the_same_server_gets_its_conversations_back():
    assert why_not_restored(SAVED, BASIS, 1001.0) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "n"}, "the model's file is another one"),
        ({"flags": "g"}, "the flags are others"),
        ({"build": "b2"}, "llama-server is another build"),
        ({"boot": "2"}, "the machine was started anew since"),
    ],
)
def test_another_server_does_not(change, reason):
    assert why_not_restored(SAVED, replace(BASIS, **change), 1001.0) == reason


def test_conversations_of_last_week_are_gone():
    assert "older than 7" in why_not_restored(SAVED, BASIS, 1001.0 + KEEP_SECONDS)


def test_a_file_that_is_newer_than_the_process_is_not_the_one_that_it_has_loaded():
    assert why_not_saved(BASIS, 4.9)
    assert why_not_saved(BASIS, 5.0) == ""


@pytest.mark.parametrize(
    ("restored", "cached", "verdict"),
    [
        ([], [900], (Use.OPEN, 0)),
        ([900], [], (Use.OPEN, 0)),
        ([900], [899], (Use.USED, 899)),
        ([900], [449], (Use.UNUSED, 0)),
        ([900], [0, 899], (Use.UNUSED, 0)),
        ([900, 100], [0], (Use.OPEN, 0)),
        ([900, 100], [0, 90], (Use.USED, 90)),
        ([900, 100], [0, 49], (Use.UNUSED, 0)),
        ([900], [5000], (Use.USED, 900)),
    ],
)
def test_the_first_answers_tell_whether_a_restored_conversation_was_of_use(restored, cached, verdict):
    assert judge(restored, cached) == verdict


def test_a_list_is_read_as_it_was_written():
    assert SavedContext.parse(SAVED.as_json()) == SAVED


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "basis": {}}', "[" * 9999])
def test_anything_else_is_no_list(text):
    with pytest.raises(ValueError, match=r"."):
        SavedContext.parse(text)


def test_saved_and_restored_conversations_are_told_in_a_sentence():
    kept = Kept(tokens=(900, 934), bytes=2**20, seconds=0.0123)
    assert said_of_restoring(kept) == "Restored 2 of 2 conversations, 1834 tokens (1.0 MiB, 12 ms)."
    partly = replace(kept, tokens=(900,), lost=1, problem="the disk is full")
    assert said_of_saving(partly) == (
        "Saved 1 of 2 conversations, 900 tokens (1.0 MiB, 12 ms). Not all was saved: the disk is full."
    )
    none = Kept(lost=1, problem="the flags are others")
    assert said_of_restoring(none) == "Its conversations are not restored: the flags are others."
    assert said_of_saving(Kept()) == ""


@pytest.mark.parametrize(
    ("answers", "who"), [(1, "the first answer did not"), (3, "none of the first 3 answers did")]
)
def test_a_restore_that_did_nothing_is_called_that(answers, who):
    assert said_of_no_use(answers) == f"It was a restore that did nothing so far: {who} go on with them."
