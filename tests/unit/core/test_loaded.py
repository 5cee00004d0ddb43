"""How long a load took, in words and as it is kept."""

from __future__ import annotations

import pytest

from supervisor_app.core.loaded import Loaded, loaded_from_json

SENTENCES = {
    Loaded(load_ms=1640): "Loaded in 1.6 s.",
    Loaded(room_ms=40, load_ms=1600): "Loaded in 1.6 s.",
    Loaded(room_ms=100, load_ms=1600, made_room=("coder",)): (
        "Loaded in 1.7 s: 0.1 s until `coder` had made room, 1.6 s to load."
    ),
    Loaded(room_ms=3000, load_ms=1600): "Loaded in 4.6 s: 3.0 s until there was room, 1.6 s to load.",
    Loaded(room_ms=200, load_ms=900, made_room=("a", "b", "c")): (
        "Loaded in 1.1 s: 0.2 s until `a`, `b` and `c` had made room, 0.9 s to load."
    ),
}


@pytest.mark.parametrize(("loaded", "sentence"), SENTENCES.items())
def test_a_load_is_told_in_one_sentence(loaded, sentence):
    assert loaded.sentence == sentence


@pytest.mark.parametrize("loaded", SENTENCES)
def test_a_load_is_read_as_it_was_kept(loaded):
    assert loaded_from_json(loaded.as_json()) == loaded


def test_of_an_older_run_no_load_is_known():
    assert loaded_from_json({}) is None
