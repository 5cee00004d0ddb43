"""Models that are read from a real disk before their server is started."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from threading import Event

import pytest

from supervisor_app.core.machine import processes as processes_module
from supervisor_app.core.machine import read_ahead as module
from supervisor_app.core.machine.read_ahead import CHUNK, read_ahead
from supervisor_app.core.testing import make_spec
from tests.integration.spawning import until

SIZE = 2 * CHUNK + 5


@pytest.fixture
def model(tmp_path):
    return write(tmp_path / "model-00001-of-00002.gguf")


def write(path, size=SIZE):
    path.write_bytes(bytes(size))
    return path


def spec_of(model, *args):
    return replace(make_spec(args=args), model_path=str(model))


@pytest.fixture
def nothing_cached(monkeypatch):
    monkeypatch.setattr(module, "_is_cached", lambda file, first, last: False)


@pytest.mark.usefixtures("nothing_cached")
def test_all_parts_of_a_model_and_what_is_loaded_with_it_are_read(model, tmp_path):
    write(tmp_path / "model-00002-of-00002.gguf", 7)
    projector, template = write(tmp_path / "mmproj.gguf", 11), write(tmp_path / "template", 13)
    spec = spec_of(model, "--mmproj", str(projector), "--chat-template-file", str(template))
    assert read_ahead(spec, SIZE + 18, lambda: False) == SIZE + 18
    assert read_ahead(spec, SIZE + 17, lambda: False) == 0, "there is no room for all of it"


@pytest.mark.usefixtures("nothing_cached")
def test_reading_stops_between_two_chunks(tmp_path):
    answers = iter([False, False, True])
    spec = spec_of(write(tmp_path / "model.gguf"))
    assert read_ahead(spec, SIZE, lambda: next(answers)) == 2 * CHUNK


def test_a_model_that_is_in_memory_is_not_read_again(tmp_path):
    path = write(tmp_path / "model.gguf")
    path.read_bytes()
    assert read_ahead(spec_of(path), SIZE, lambda: False) == 0


@pytest.mark.parametrize("missing", ["RWF_NOWAIT", "preadv"])
def test_where_nobody_tells_what_is_in_memory_all_is_read(tmp_path, monkeypatch, missing):
    preadv = os.preadv

    def refused(file, buffers, offset, flags=0):
        if flags:
            raise OSError
        return preadv(file, buffers, offset)

    if missing == "preadv":
        monkeypatch.setattr(os, "preadv", refused)
    else:
        monkeypatch.delattr(os, "RWF_NOWAIT")
    assert read_ahead(spec_of(write(tmp_path / "model.gguf")), SIZE, lambda: False) == SIZE


def test_a_pipe_is_no_model(tmp_path):
    os.mkfifo(tmp_path / "model.gguf")
    assert read_ahead(spec_of(tmp_path / "model.gguf"), SIZE, lambda: False) == 0


async def test_a_read_ends_soon_after_it_was_cancelled(processes, monkeypatch):
    began, ended = Event(), Event()

    def read_for_ever(spec, most, stopped):
        began.set()
        while not stopped():
            pass
        ended.set()

    monkeypatch.setattr(processes_module, "read_ahead", read_for_ever)
    reading = asyncio.create_task(processes.read_ahead(make_spec(), 1))
    await until(began.is_set)
    reading.cancel()
    await until(ended.is_set)
