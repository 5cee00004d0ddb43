"""What changed between two command lines."""

from __future__ import annotations

import pytest

from supervisor_app.core.command_line.argv import Beside, argv_diff, flags_beside

BASE = ["llama-server", "-m", "a.gguf", "-c", "8192", "-ngl", "99"]


@pytest.mark.parametrize(
    ("after", "changes"),
    [
        (BASE, ()),
        (["llama-server", "-ngl", "99", "-c", "8192", "-m", "a.gguf"], ()),
        (["llama-server", "-m", "a.gguf", "-c", "32768", "-ngl", "99"], ("-c 8192 -> 32768",)),
        ([*BASE, "--mlock"], ("added --mlock",)),
        (BASE[:-2], ("removed -ngl 99",)),
        (BASE[:-1], ("-ngl 99 -> without a value",)),
        ([*BASE[:-1], "-1"], ("-ngl 99 -> -1",)),
        ([*BASE, "--lora", "a", "--lora", "b"], ("added --lora a b",)),
        (["/opt/llama-server", *BASE[1:]], ("llama-server -> /opt/llama-server",)),
        (BASE[1:], ("llama-server -> -",)),
        (
            ["llama-server", "-m", "b.gguf", "-fa", "on"],
            ("-m a.gguf -> b.gguf", "added -fa on", "removed -c 8192", "removed -ngl 99"),
        ),
    ],
)
def test_changes_are_told_by_flag(after, changes):
    assert argv_diff(BASE, after) == changes


def test_a_command_line_that_was_not_known_is_all_new():
    assert argv_diff([], ["llama-server", "-c", "1"]) == ("- -> llama-server", "added -c 1")


# --- Side by side --------------------------------------------------------------------------------------


def test_flags_stand_side_by_side_with_all_of_their_values():
    before = ["llama-server", "-c", "8192", "--mlock", "--lora", "a", "--lora", "b"]
    after = ["llama-server", "-c", "32768", "--lora", "a", "--lora", "b", "-ngl", "99"]
    rows = flags_beside(before, after)
    assert [(row.name, row.before, row.after) for row in rows] == [
        ("", "llama-server", "llama-server"),
        ("-c", "8192", "32768"),
        ("--lora", "a b", "a b"),
        ("-ngl", None, "99"),
        ("--mlock", "", None),
    ]
    assert [row.name for row in rows if row.differs] == ["-c", "-ngl", "--mlock"]


def test_a_command_line_that_is_not_known_has_no_flags():
    assert flags_beside([], ["llama-server"]) == [Beside("", None, "llama-server")]
    assert flags_beside([], []) == []
