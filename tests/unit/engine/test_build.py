"""Builds of engines: what is known of them without asking, and which is newer."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from supervisor_app.engine.build import build_of, reaches, told_build
from supervisor_app.engine.resolve import LAUNCHER


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


@pytest.fixture
def engine(tmp_path):
    """An engine that counts how often it is run; the file `says` is its answer."""
    engine = tmp_path / "llama-server"
    engine.write_text(f"#!/bin/sh\necho >> {tmp_path}/runs\ncat {tmp_path}/says\n")
    engine.chmod(0o755)
    (tmp_path / "says").write_text("version: 8763 (ff5ef8278)")
    return engine


def runs(engine):
    return len(engine.with_name("runs").read_text())


def test_an_engine_is_asked_once_by_all_servers_that_start_together(engine):
    with ThreadPoolExecutor(8) as servers:
        builds = list(servers.map(lambda _: build_of([str(engine)], {}), range(8)))
    assert builds == ["b8763"] * 8
    assert runs(engine) == 1


def test_an_engine_with_other_variables_is_asked_anew(engine):
    build_of([str(engine)], {})
    build_of([str(engine)], {"LD_LIBRARY_PATH": "/opt/new"})
    assert runs(engine) == 2


def test_another_program_in_the_place_of_an_engine_is_asked_anew(engine):
    assert build_of([str(engine)], {}) == "b8763"
    engine.with_name("says").write_text("version: 8800 (abc)")
    draft = engine.with_name("draft")
    draft.write_text(engine.read_text())
    draft.chmod(0o755)
    draft.replace(engine)
    assert build_of([str(engine)], {}) == "b8800"
    assert told_build([str(engine), "-c"]) == "b8800"


def test_an_engine_that_is_found_on_the_path_is_asked_each_time(engine, monkeypatch):
    monkeypatch.setenv("PATH", f"{engine.parent}:/usr/bin:/bin")
    assert build_of([engine.name], {}) == "b8763"
    engine.with_name("says").write_text("version: 8800 (abc)")
    assert build_of([engine.name], {}) == "b8800"


def test_the_bundled_engine_is_looked_at_each_time(monkeypatch):
    versions = iter(["1.0", "1.1"])
    monkeypatch.setattr("supervisor_app.engine.build.metadata.version", lambda _: next(versions))
    command = [sys.executable, str(LAUNCHER)]
    assert [build_of(command, {}) for _ in range(2)] == ["xllamacpp 1.0", "xllamacpp 1.1"]


def test_an_engine_that_has_not_said_its_build_is_asked_again(engine):
    engine.with_name("says").write_text("out of memory")
    assert build_of([str(engine)], {}) == ""
    engine.with_name("says").write_text("version: 8763 (ff5ef8278)")
    assert build_of([str(engine)], {}) == "b8763"
