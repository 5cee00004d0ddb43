"""Conversations that are kept, where the engine or the disk does not do its part: a scripted engine, the real disk."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from supervisor_app.core.context.saved import Kept
from supervisor_app.core.machine import contexts, slot_files
from supervisor_app.core.machine.contexts import LocalContexts, restore, save
from supervisor_app.core.machine.slot_actions import SlotActionError
from supervisor_app.core.spec import LaunchSpec
from tests.deadline import DEADLINE
from tests.ports import free_port

PROPS = {"build_info": "b1", "model_path": "model.gguf"}
LONG, SHORT = 100, 5
"""Tokens that are worth a file, and that are not."""


def slot(number, tokens=LONG, **more):
    return {"id": number, "is_processing": False, "n_prompt_tokens": tokens, "id_task": number, **more}


class Engine:
    """A llama-server as far as its slots go. `props`, `slots` and `acts` are what it answers."""

    def __init__(self, folder) -> None:
        self.folder = folder / "slots" / "default"
        self.props: object = PROPS
        self.slots: object = [slot(0)]
        self.acts = self.act
        self.asked: list[str] = []
        self.silent = threading.Event()
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                engine.asked.append(self.path)
                self.reply(200, engine.props if self.path == "/props" else engine.slots)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                where = urlsplit(self.path)
                action, number = parse_qs(where.query)["action"][0], int(where.path.rpartition("/")[2])
                self.reply(*engine.acts(action, number, body["filename"]))

            def reply(self, status, content) -> None:
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments) -> None:
                """Keep the console of the tests clean."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()
        self.model = folder / "model.gguf"
        self.model.write_bytes(b"weights")
        self.spec = LaunchSpec(
            host="127.0.0.1",
            port=self._http.server_address[1],
            command=("llama-server",),
            args=(),
            cwd=str(folder),
            slot_dir=str(self.folder),
        )

    def act(self, action, number, name, tokens=LONG, size=1000, told=1000):
        """Save as the real one does: a file, and how much went into it."""
        if action == "restore":
            return 200, {"n_restored": tokens}
        (self.folder / name).write_bytes(b"x" * size)
        return 200, {"n_saved": tokens, "n_written": told}

    def close(self) -> None:
        self.silent.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(DEADLINE)

    def save(self, seconds=DEADLINE, started_at=None):
        return save(self.spec, time.time() + 60 if started_at is None else started_at, seconds)

    @property
    def files(self):
        return sorted(file.name for file in self.folder.iterdir())


@pytest.fixture
def engine(tmp_path):
    made = Engine(tmp_path)
    yield made
    made.close()


# --- Saved ---------------------------------------------------------------------------------------------


def test_a_saved_conversation_is_restored_once(engine):
    kept = engine.save()
    assert (kept.tokens, kept.lost, kept.bytes, kept.problem) == ((LONG,), 0, 1000, "")
    assert engine.files == [slot_files.LIST, "slot-0.bin"]
    assert restore(engine.spec, DEADLINE).tokens == (LONG,)
    assert engine.files == []
    assert restore(engine.spec, DEADLINE) == Kept()


def test_a_server_that_sleeps_is_not_woken(engine):
    engine.props = {**PROPS, "is_sleeping": True}
    assert engine.save() == Kept()
    assert engine.asked == ["/props"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"props": []}, "does not tell its build"),
        ({"slots": {}}, "does not tell its slots"),
    ],
)
def test_an_engine_that_does_not_say_what_it_holds_is_left_alone(engine, change, words):
    vars(engine).update(change)
    with pytest.raises(SlotActionError, match=words):
        engine.save()
    assert engine.files == []


def test_nothing_is_saved_of_a_process_that_is_older_than_its_model(engine):
    kept = engine.save(started_at=0.0)
    assert (kept.lost, kept.problem) == (
        1,
        "the model's file, or llama-server itself, is newer than the process",
    )


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"told": 2000}, "of 2000 bytes 1000 were written"),
        (
            (501, {"error": {"message": "This server does not support slots action."}}),
            "llama-server answered 501 (",
        ),
        ((500, "no object"), "llama-server answered 500"),
        ((200, [1]), "llama-server did not say what became of it"),
    ],
)
def test_a_slot_that_was_not_saved_whole_is_lost_and_leaves_nothing(engine, answer, problem):
    engine.slots = [slot(0), slot(1, tokens=None)]
    if isinstance(answer, dict):
        engine.acts = lambda *asked: engine.act(*asked, **answer)
    else:
        engine.acts = lambda *asked: answer
    kept = engine.save()
    assert (kept.tokens, kept.lost) == ((), 1)
    assert problem in kept.problem
    assert engine.files == []


def test_a_conversation_that_is_too_short_is_no_loss(engine):
    engine.acts = lambda *asked: engine.act(*asked, tokens=SHORT)
    assert engine.save().tokens == ()
    assert engine.files == []


def test_the_bytes_of_one_server_are_bounded(engine, monkeypatch):
    monkeypatch.setattr(contexts, "MOST_BYTES", 1500)
    engine.slots = [slot(0), slot(1)]
    kept = engine.save()
    assert (kept.tokens, kept.lost) == ((LONG,), 1)
    assert "together they are larger than" in kept.problem


def test_a_disk_that_is_nearly_full_is_left_to_others(engine, monkeypatch):
    monkeypatch.setattr(slot_files, "LEAST_FREE", 2**62)
    kept = engine.save()
    assert kept.lost == 1
    assert "too little of the disk is free" in kept.problem


def test_no_time_is_left_for_an_engine_that_was_slow(engine):
    def slow(*asked):
        engine.silent.wait(DEADLINE)
        return 200, {}

    engine.acts = slow
    engine.slots = [slot(0), slot(1)]
    kept = engine.save(seconds=0.3)
    assert (kept.tokens, kept.lost, kept.problem) == ((), 2, "llama-server took too long")
    with pytest.raises(SlotActionError, match="it took longer than 0 s"):
        contexts.left(time.monotonic(), 0.0)


def test_an_engine_that_is_gone_is_said_to_be(engine):
    gone = LaunchSpec(host="127.0.0.1", port=free_port(), command=(), args=(), slot_dir=str(engine.folder))
    with pytest.raises(SlotActionError, match="did not answer"):
        save(gone, time.time(), DEADLINE)


# --- Restored ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (
            lambda engine: (engine.folder / "slot-0.bin").write_bytes(b"cut"),
            "slot-0.bin is not as it was saved",
        ),
        (lambda engine: (engine.folder / "slot-0.bin").unlink(), "slot-0.bin: No such file or directory"),
        (
            lambda engine: setattr(engine, "acts", lambda *asked: (200, {"n_restored": 3})),
            "of 100 tokens 3 were",
        ),
        (
            lambda engine: setattr(engine, "props", {**PROPS, "build_info": "b2"}),
            "llama-server is another build",
        ),
        (lambda engine: engine.model.write_bytes(b"others"), "the model's file is another one"),
    ],
)
def test_a_conversation_that_is_not_the_same_is_not_restored_and_not_kept(engine, spoil, problem):
    engine.save()
    spoil(engine)
    kept = restore(engine.spec, DEADLINE)
    assert (kept.tokens, kept.lost) == ((), 1)
    assert problem in kept.problem
    assert engine.files == []


def test_a_list_that_cannot_be_read_is_none(engine):
    engine.save()
    (engine.folder / slot_files.LIST).write_text("{")
    assert restore(engine.spec, DEADLINE) == Kept()
    assert engine.files == []


# --- In threads of its own -----------------------------------------------------------------------------


@pytest.fixture
def kept_by(engine):
    async def answers(server, since, count):
        return [since, count]

    made = LocalContexts(engine.folder.parent, answers=answers)
    yield made
    made.close()


async def test_a_save_that_does_not_come_back_is_waited_for_no_longer_than_was_said(
    engine, kept_by, monkeypatch
):
    monkeypatch.setattr(contexts, "SPARE_SECONDS", 0.05)
    monkeypatch.setattr(contexts, "save", lambda *asked: engine.silent.wait(DEADLINE))
    kept = await kept_by.save("default", engine.spec, 0.0, 0.05)
    assert kept.problem == "it took longer than 0 s"


async def test_whatever_fails_is_a_sentence(engine, kept_by):
    engine.props = []
    assert "does not tell its build" in (await kept_by.save("default", engine.spec, 0.0, DEADLINE)).problem
    (engine.folder / slot_files.LIST).mkdir(parents=True)
    assert "Is a directory" in (await kept_by.restore("default", engine.spec, DEADLINE)).problem


async def test_a_folder_that_cannot_be_made_is_told(engine, kept_by):
    engine.folder.parent.write_text("a file")
    assert "Not a directory" in await kept_by.prepare("default", engine.spec)


async def test_want_of_our_own_is_told_as_such(engine, kept_by, monkeypatch):
    def short(folder):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(slot_files, "make_folder", short)
    assert (
        await kept_by.prepare("default", engine.spec) == "llamaproxy has no file descriptor left (ulimit -n)"
    )


async def test_servers_that_are_gone_leave_nothing(engine, kept_by):
    assert await kept_by.prepare("default", engine.spec) == ""
    (engine.folder.parent / "empty").mkdir()
    engine.save()
    await kept_by.prune()
    assert engine.files == [slot_files.LIST, "slot-0.bin"]
    await kept_by.forget(["default", "never there"])
    assert not engine.folder.exists()
    assert await kept_by.answers("default", 5.0, 2) == [5.0, 2]
