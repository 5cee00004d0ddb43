"""Builds of engines: what is known of them without asking, and which is newer."""

from __future__ import annotations

import pytest

from supervisor_app.engine.build import build_of, reaches, told_build


@pytest.mark.parametrize(
    ("build", "other", "is_it"),
    [
        ("b11669", "b11669", True),
        ("b11700", "b11669", True),
        ("b9999", "b11669", False),
        ("xllamacpp 2026.10", "xllamacpp 2026.8.1", True),
        ("xllamacpp 2026.8", "xllamacpp 2026.8.1", False),
        ("xllamacpp 2026.8", "b11669", True),
        ("", "b11669", True),
        ("master", "b11669", True),
    ],
)
def test_a_build_that_is_not_known_to_be_older_counts_as_newer(build, other, is_it):
    assert reaches(build, other) is is_it


def test_an_engine_that_was_asked_is_known_on_each_of_its_command_lines(tmp_path):
    engine = tmp_path / "llama-server"
    engine.write_text("#!/bin/sh\necho 'version: 8763 (ff5ef8278)'\n")
    engine.chmod(0o755)
    command = [str(engine), "--of-a-launcher"]
    assert told_build([*command, "-m", "x.gguf"]) == ""
    assert build_of(command, {}) == "b8763"
    assert told_build([*command, "-m", "x.gguf"]) == "b8763"
    assert told_build(command[:1]) == ""
