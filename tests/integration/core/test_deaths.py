"""Every way to die that can be provoked here: the real llama-server, the real supervisor, the row it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest
import requests

from supervisor_app.core.machine.clock import SystemClock
from supervisor_app.core.machine.probe import HttpProbe
from supervisor_app.core.machine.processes import LocalProcesses
from supervisor_app.core.node import NodeSupervisor
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import FakeFootprints, RecordingPublisher
from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.lease import Lease
from supervisor_app.fleet.models import Run, ServerState
from supervisor_app.fleet.store import OrmStore
from supervisor_app.roles.store_hooks import STORE_HOOKS
from tests.deadline import DEADLINE
from tests.integration.building import db, eventually, make_server
from tests.ports import free_port

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals and limits as Linux has them"),
]

ENGINE = shutil.which("llama-server") or ""
PADDING_MB = 512
"""Half a second to load: time to do it harm meanwhile."""


class Ward:
    """A supervisor of one server that gets no second chance: the run it leaves is the one to look at."""

    def __init__(self, folder) -> None:
        self.command = (ENGINE,)
        self.publisher = RecordingPublisher()
        self.log_dir = folder / "logs"
        self._store = OrmStore(
            node="ward",
            overlay=Overlay,
            command=lambda: self.command,
            lease=Lease("ward"),
            hooks=STORE_HOOKS,
        )
        self._probe = HttpProbe()
        self._supervisor = NodeSupervisor(
            store=self._store,
            publisher=self.publisher,
            processes=LocalProcesses(log_dir=self.log_dir),
            probe=self._probe,
            clock=SystemClock(),
            footprints=FakeFootprints(),
        )
        self._task: asyncio.Task[None] | None = None
        self.port = free_port()

    async def admit(self, model, *args, threads=True, **fields):
        args = [*(["-t", "1"] if threads else []), *args]
        # Open, so that tests may ask it for what kills it.
        fields = {"max_retries": 0, "stop_grace_ms": 500, "api_key": "", **fields}
        await db(make_server, node="ward", model_path=str(model), port=self.port, args=args, **fields)
        self._task = asyncio.create_task(self._supervisor.run())

    @property
    def seen(self):
        """As pages saw it last."""
        return self.publisher.snapshots[-1] if self.publisher.snapshots else None

    async def until(self, condition) -> None:
        await eventually(lambda: self._task.done() or (self.seen and condition(self.seen)), DEADLINE)
        assert not self._task.done(), self._task.exception()

    async def until_ready(self) -> int:
        """The pid."""
        await self.until(lambda seen: seen.status is Status.READY)
        return self.seen.pid

    async def until_loading(self) -> int:
        await self.until(lambda seen: seen.pid and seen.detail == "Loading the model.")
        return self.seen.pid

    async def funeral(self) -> Run:
        """Its row, once it has given up."""
        await self.until(lambda seen: seen.status is Status.ERROR)
        rows = await db(lambda: list(Run.objects.exclude(ended_at=None)))
        while not rows:  # pages are told a blink before, when the database is slow
            await asyncio.sleep(0.01)
            rows = await db(lambda: list(Run.objects.exclude(ended_at=None)))
        return rows[0]

    async def dies(self, model, *args, **more) -> Run:
        await self.admit(model, *args, **more)
        return await self.funeral()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._supervisor.shutdown()
        self._probe.close()
        self._store.close()


@pytest.fixture
async def ward(transactional_db, tmp_path):
    if not ENGINE:
        pytest.skip("install llama.cpp (https://github.com/ggml-org/llama.cpp)")
    built = Ward(tmp_path)
    yield built
    await built.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    return make_demo_model(tmp_path_factory.mktemp("demo") / "demo.gguf")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    path = make_demo_model(tmp_path_factory.mktemp("large") / "large.gguf", padding_mb=PADDING_MB)
    yield path
    path.unlink()


@pytest.fixture
def copy(demo, tmp_path):
    """Writes a variant of the demo model: `copy(edit)`, bytes in, bytes out."""

    def write(edit=lambda data: data):
        path = tmp_path / "model.gguf"
        path.write_bytes(edit(demo.read_bytes()))
        return path

    return write


def assert_died(run, kind, title, decisive, *, code=1, sig=None):
    """`decisive` is in the detail, in the evidence and among the last lines."""
    assert (run.exit_code, run.signal) == (code, sig)
    assert (run.failure_kind, run.failure_title) == (kind, title)
    assert run.failure_hint
    if decisive:
        assert decisive in run.evidence["decisive"]
        assert decisive in run.last_lines


# --- The model -----------------------------------------------------------------------------------------


def replaced(old, new):
    def edit(data):
        assert old in data
        return data.replace(old, new, 1)

    return edit


BROKEN = {
    "zero length": (lambda data: b"", "failed to read magic"),
    "garbage": (lambda data: b"){?!" * 5000, "invalid magic characters"),
    "a web page": (lambda data: b"<!DOCTYPE html>" + b" " * 5000, "invalid magic characters"),
    "truncated in its header": (lambda data: data[:20], "failed to read"),
    "truncated in its keys": (lambda data: data[:2000], "failed to read key-value pairs"),
    "truncated in its data": (lambda data: data[:-1000], "model is corrupted or incomplete"),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_model(ward, copy, how):
    edit, decisive = BROKEN[how]
    run = await ward.dies(copy(edit))
    assert_died(run, FailureKind.MODEL_CORRUPT, "Model file broken or incomplete", decisive)
    assert "model.gguf" in run.failure_detail


async def test_a_model_that_is_a_directory(ward, tmp_path):
    run = await ward.dies(tmp_path)
    assert_died(run, FailureKind.MODEL_CORRUPT, "Model file broken or incomplete", "failed to read magic")


async def test_a_missing_model(ward, tmp_path):
    run = await ward.dies(tmp_path / "none.gguf")
    assert_died(run, FailureKind.MODEL_MISSING, "Model file missing", "No such file or directory")
    assert str(tmp_path / "none.gguf") in run.failure_detail


async def test_a_model_that_may_not_be_read(ward, copy):
    model = copy()
    model.chmod(0)
    if os.geteuid() == 0:  # root may read everything
        if not (setpriv := shutil.which("setpriv")):
            pytest.skip("runs as root, and setpriv is not there to run the engine as somebody else")
        ward.command = (setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", ENGINE)
    run = await ward.dies(model)
    assert_died(run, FailureKind.MODEL_UNREADABLE, "Model file not readable", "Permission denied")


UNSUPPORTED = {
    "unknown architecture": (
        replaced(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0llamq"),
        "unknown model architecture: 'llamq'",
    ),
    "missing tensor": (replaced(b"blk.1.ffn_up.weight", b"blk.1.ffn_uq.weight"), "tensor"),
    "missing key": (replaced(b"llama.block_count", b"llama.block_cound"), "key not found in model"),
    "a version from the future": (replaced(b"GGUF\x03", b"GGUF\x09"), "this GGUF file is version"),
}


@pytest.mark.parametrize("how", UNSUPPORTED)
async def test_a_model_that_it_does_not_support(ward, copy, how):
    edit, decisive = UNSUPPORTED[how]
    run = await ward.dies(copy(edit))
    assert_died(run, FailureKind.MODEL_UNSUPPORTED, "Model not supported by this llama-server", decisive)


# --- The command line ----------------------------------------------------------------------------------

REFUSED = {
    "unknown flag": (["--frobnicate"], "error: invalid argument: --frobnicate"),
    "bad value": (["-c", "many"], 'error while handling argument "-c": stoi'),
    "missing value": (["-c"], 'error while handling argument "-c": expected value'),
    "missing key file": (["--api-key-file", "/no/such/keys"], "failed to open file '/no/such/keys'"),
}


@pytest.mark.parametrize("how", REFUSED)
async def test_a_flag_that_it_refuses(ward, demo, how):
    args, decisive = REFUSED[how]
    run = await ward.dies(demo, *args)
    assert_died(run, FailureKind.BAD_ARGUMENT, "llama-server refused a flag", decisive)
    assert run.argv[-len(args) :] == args


# --- The files that flags name -------------------------------------------------------------------------

NOWHERE = "/no/such/file"


def kept_failure():
    """As the next supervisor reads it."""
    return ServerState.objects.get().failure or {}


OTHER_FILES = {
    "a projector": (["--mmproj", NOWHERE], FailureKind.MODEL_MISSING, "No such file or directory"),
    "a draft model": (["-md", NOWHERE], FailureKind.MODEL_MISSING, "No such file or directory"),
    "an adapter": (["--lora", NOWHERE], FailureKind.MODEL_MISSING, "No such file or directory"),
    "a template": (["--chat-template-file", NOWHERE], FailureKind.BAD_ARGUMENT, "failed to open file"),
    "tool servers": (["--mcp-servers-config", NOWHERE], FailureKind.BAD_ARGUMENT, "failed to open MCP"),
    "a page": (["--path", NOWHERE], FailureKind.BAD_ARGUMENT, "static assets path not found"),
    "a grammar": (["--grammar-file", NOWHERE], FailureKind.BAD_ARGUMENT, "failed to open file"),
    "in silence": (["--lora", NOWHERE, "--log-disable"], FailureKind.MODEL_MISSING, ""),
    "in silence, too": (["--mmproj", NOWHERE, "-lv", "0"], FailureKind.MODEL_MISSING, ""),
    "in JSON": (["--lora", NOWHERE, "--log-jsonl"], FailureKind.MODEL_MISSING, "No such file or directory"),
}


@pytest.mark.parametrize("what", OTHER_FILES)
async def test_a_file_that_a_flag_names_is_missing(ward, demo, what):
    args, kind, decisive = OTHER_FILES[what]
    run = await ward.dies(demo, *args)
    assert run.failure_kind == kind
    assert NOWHERE in run.failure_detail
    assert args[0] in run.failure_detail + run.failure_hint
    assert decisive in run.evidence["decisive"]
    kept = await db(kept_failure)
    assert (kept["permanent"], kept["file"]) == (True, NOWHERE)


BROKEN_JSON = {
    "in a flag": ["--chat-template-kwargs", "{bad"],
    "for tools": ["--mcp-servers-json", "{bad"],
    "for the page": ["--ui-config", "{bad"],
    "in a file": ["--mcp-servers-config", "bad.json"],
    "in a schema": ["-jf", "bad.json"],
}


@pytest.mark.parametrize("where", BROKEN_JSON)
async def test_json_that_is_broken(ward, copy, tmp_path, where):
    (tmp_path / "bad.json").write_text("{bad")
    flag, value = BROKEN_JSON[where]
    file = str(tmp_path / value) if value == "bad.json" else ""
    run = await ward.dies(copy(), flag, file or value)
    assert_died(run, FailureKind.BAD_ARGUMENT, "llama-server refused a flag", "json.exception.parse_error")
    assert flag in run.failure_detail
    assert (await db(kept_failure))["file"] == file


@pytest.mark.parametrize("how", ["--log-disable", "--log-jsonl", "--no-log-prefix", "--no-log-timestamps"])
async def test_a_missing_model_however_it_writes_its_log(ward, tmp_path, how):
    run = await ward.dies(tmp_path / "none.gguf", how)
    assert (run.failure_kind, run.failure_title) == (FailureKind.MODEL_MISSING, "Model file missing")
    assert str(tmp_path / "none.gguf") in run.failure_detail


def in_parts(demo, folder):
    """The demo model in three parts."""
    gguf = pytest.importorskip("gguf", reason="pip install '.[engine]'")
    reader = gguf.GGUFReader(demo)
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama", split_max_tensors=8)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            of_items = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], of_items)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("model-*.gguf"))


async def test_a_model_without_its_second_part(ward, demo, tmp_path):
    first, second, _ = in_parts(demo, tmp_path)
    second.unlink()
    run = await ward.dies(first)
    assert_died(run, FailureKind.MODEL_MISSING, "A part of the model is missing", second.name)
    assert (await db(kept_failure))["file"] == str(second)


# --- What clients have it say --------------------------------------------------------------------------

WORDS = "CUDA error: out of memory"
ECHOED = {
    "invalid JSON": ("/v1/chat/completions", '{"messages": %s\n%s\n0.00.001.000 E %s'),
    "a grammar": ("/completion", '{"prompt": "x", "grammar": "%s\\n%s\\nroot ::= (\\n0.09.000.000 E %s"}'),
    "a tool": (
        "/v1/chat/completions",
        '{"messages": [{"role": "user", "content": "x"}], "tool_choice": "%s\\n%s\\n%s"}',
    ),
}


@pytest.mark.parametrize("how", ["", "--verbose", "--log-jsonl", "--no-log-prefix"])
@pytest.mark.parametrize("what", ECHOED)
async def test_what_a_client_has_it_write_is_not_why_it_died(ward, demo, what, how):
    path, body = ECHOED[what]
    await ward.admit(demo, *filter(None, [how]))
    pid = await ward.until_ready()
    url = f"http://127.0.0.1:{ward.port}{path}"
    data = body % (WORDS, WORDS, WORDS)
    answer = await asyncio.to_thread(requests.post, url, data=data, timeout=DEADLINE)
    assert answer.status_code in (400, 500)
    os.kill(pid, signal.SIGSEGV)
    run = await ward.funeral()
    assert_died(run, FailureKind.KILLED_BY_SIGNAL, "Ended by a signal", "", code=None, sig=signal.SIGSEGV)
    assert run.evidence["decisive"] == ""
    assert WORDS not in run.failure_detail


async def test_what_killed_a_routers_child_is_not_what_killed_the_router(ward, demo, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "good.gguf").write_bytes(demo.read_bytes())
    (tmp_path / "models" / "broken.gguf").write_bytes(demo.read_bytes()[:-1000])
    await ward.admit("", models_dir=str(tmp_path / "models"))
    pid = await ward.until_ready()
    url = f"http://127.0.0.1:{ward.port}/v1/completions"
    answer = await asyncio.to_thread(
        requests.post, url, json={"model": "broken", "prompt": "x"}, timeout=DEADLINE
    )
    assert answer.status_code == 500
    os.kill(pid, signal.SIGSEGV)
    run = await ward.funeral()
    assert_died(run, FailureKind.KILLED_BY_SIGNAL, "Ended by a signal", "", code=None, sig=signal.SIGSEGV)


async def test_a_port_that_was_taken_between_the_look_and_the_bind(ward, demo):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        held = holder.getsockname()[1]
        run = await ward.dies(demo, "--host", "127.0.0.1", "--port", str(held))
    assert_died(run, FailureKind.PORT_TAKEN, "Address not available", "couldn't bind HTTP server socket")
    assert run.failure_detail == f"could not listen on 127.0.0.1 port {held}"


async def test_an_address_that_is_not_of_this_machine(ward, demo):
    run = await ward.dies(demo, "--host", "203.0.113.1")
    assert_died(run, FailureKind.PORT_TAKEN, "Address not available", "couldn't bind HTTP server socket")


async def test_a_library_that_cannot_be_loaded(ward, demo, tmp_path):
    """A copy of the engine that asks for a library of another name."""
    binary = Path(ENGINE).read_bytes()
    needed = re.search(rb"\0lib(?:llama|ggml)[\w.-]*\.so[\w.]*\0", binary)
    if not needed:
        pytest.skip("this llama-server is linked statically, or a script")
    other = tmp_path / "llama-server"
    other.write_bytes(binary.replace(needed[0], needed[0].replace(b"\0lib", b"\0nil")))
    other.chmod(0o755)
    ward.command = (str(other),)
    run = await ward.dies(demo)
    title = "A library that llama-server needs is missing"
    decisive = "error while loading shared libraries:"
    assert_died(run, FailureKind.LIBRARY_MISSING, title, decisive, code=127)


# --- Memory --------------------------------------------------------------------------------------------


def limited(kib):
    """A llama-server with so much address space, of which the heap of each further thread would take 128 MB."""
    return ("/bin/sh", "-c", f'ulimit -v {kib}; MALLOC_ARENA_MAX=1 exec "$@"', "sh", ENGINE)


@pytest.mark.parametrize(
    ("mode", "decisive"),
    [("none", "failed to allocate CPU buffer of size"), ("mmap", "mmap failed: Cannot allocate memory")],
)
async def test_no_memory_for_the_weights(ward, large, mode, decisive):
    ward.command = limited(500_000)
    run = await ward.dies(large, "-lm", mode)
    assert run.failure_kind == FailureKind.OUT_OF_MEMORY
    assert run.failure_title == "Out of memory"
    # Threads take address space, too: now and then none is left to say so and end in order, and C++ aborts.
    assert run.exit_code == 1 or run.signal == signal.SIGABRT
    assert decisive in run.last_lines
    assert not run.evidence["oom"]


async def test_no_memory_for_the_context(ward, demo):
    ward.command = limited(2_000_000)
    run = await ward.dies(demo, "-c", "4000000")
    assert (run.failure_kind, run.failure_title) == (FailureKind.OUT_OF_MEMORY, "Out of memory")
    assert "-c" in run.failure_hint


@contextlib.contextmanager
def memory_group(limit):
    """A control group of our own with so much memory; skips where we may not make one."""
    name = f"llamaproxy-test-{os.getpid()}"
    for root, limits in (
        (Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes",)),
        (Path("/sys/fs/cgroup"), ("memory.max", "memory.swap.max")),
    ):
        group = root / name
        with contextlib.suppress(OSError):
            group.mkdir()
            try:
                for file in limits:
                    (group / file).write_text("0" if "swap" in file else str(limit))
            except OSError:
                group.rmdir()
                continue
            try:
                yield group
            finally:
                for _ in range(100):
                    with contextlib.suppress(OSError):
                        group.rmdir()
                        break
            return
    pytest.skip("no memory control group may be made here")


async def test_the_oom_killer(ward, large):
    with memory_group(200 * 2**20) as group:
        ward.command = ("/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", ENGINE)
        run = await ward.dies(large, "-lm", "none")
        title = "Killed because memory ran out"
        assert_died(run, FailureKind.OOM_KILLED, title, "", code=None, sig=signal.SIGKILL)
        assert "it used " in run.failure_detail
        assert run.evidence["oom"]


# --- Signals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "detail"),
    [
        (signal.SIGKILL, "SIGKILL, without a word"),
        (signal.SIGSEGV, "SIGSEGV: it crashed"),
        (signal.SIGABRT, "SIGABRT: it crashed"),
        (signal.SIGBUS, "SIGBUS: the model file most likely changed"),
        (signal.SIGHUP, "SIGHUP, sent by something else"),
    ],
)
async def test_a_signal_ends_a_ready_one(ward, demo, number, detail):
    await ward.admit(demo)
    os.kill(await ward.until_ready(), number)
    run = await ward.funeral()
    assert_died(run, FailureKind.KILLED_BY_SIGNAL, "Ended by a signal", "", code=None, sig=number)
    assert detail in run.failure_detail
    assert run.ready_at is not None
    assert run.evidence["memory"]["anon"] > 0
    assert run.evidence["models"] == [str(demo)]


async def test_what_it_was_doing_is_known(ward, large):
    """Two requests, and a look at them: the first one comes five seconds after it is ready."""
    await ward.admit(large, "-np", "4")
    pid = await ward.until_ready()
    url = f"http://127.0.0.1:{ward.port}/v1/chat/completions"
    body = {"messages": [], "max_tokens": 2000, "stream": True}

    def ask():
        with contextlib.suppress(requests.RequestException):
            requests.post(url, json=body, timeout=DEADLINE)

    asking = [asyncio.create_task(asyncio.to_thread(ask)) for _ in range(2)]
    await asyncio.sleep(6.5)
    os.kill(pid, signal.SIGSEGV)
    await asyncio.gather(*asking)
    run = await ward.funeral()
    assert run.evidence["serving"] == "2 of 4 slots were working on a request."
    assert len(run.evidence["history"]) > 1


async def test_a_kill_9_with_memory_to_spare_is_not_blamed_on_memory(ward, demo):
    await ward.admit(demo)
    os.kill(await ward.until_ready(), signal.SIGKILL)
    run = await ward.funeral()
    assert run.failure_kind == FailureKind.KILLED_BY_SIGNAL
    assert run.failure_hint.startswith("Memory was not short")
    assert " were free" in run.evidence["summary"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_from_outside_while_it_loads(ward, large, number):
    await ward.admit(large, "-lm", "none")
    os.kill(await ward.until_loading(), number)
    run = await ward.funeral()
    assert_died(run, FailureKind.KILLED_BY_SIGNAL, "Ended by a signal", "", code=None, sig=number)
    assert run.failure_detail == f"{number.name}, sent by something else"
    assert run.ready_at is None


async def test_an_end_that_nobody_asked_for(ward, demo):
    await ward.admit(demo)
    os.kill(await ward.until_ready(), signal.SIGTERM)
    run = await ward.funeral()
    assert_died(run, FailureKind.EXITED, "Unexpected end", "", code=0)
    assert run.failure_detail == "it ended by itself with code 0"
    assert "cleaning up before exit" in run.last_lines


async def test_a_model_file_that_is_cut_under_it(ward, copy):
    model = copy()
    await ward.admit(model, "-lm", "mmap")
    await ward.until_ready()
    os.truncate(model, 4096)
    url = f"http://127.0.0.1:{ward.port}/v1/chat/completions"
    with contextlib.suppress(requests.RequestException):
        await asyncio.to_thread(requests.post, url, json={"messages": [], "max_tokens": 4}, timeout=30)
    run = await ward.funeral()
    assert_died(run, FailureKind.KILLED_BY_SIGNAL, "Ended by a signal", "", code=None, sig=signal.SIGBUS)
    assert "the model file most likely changed" in run.failure_detail


async def test_an_assertion_of_llama_cpp(ward, demo):
    run = await ward.dies(demo, "-b", "0")
    decisive = "GGML_ASSERT("
    title = "Ended by a signal"
    assert_died(run, FailureKind.KILLED_BY_SIGNAL, title, decisive, code=None, sig=signal.SIGABRT)
    assert "update llama.cpp" in run.failure_hint


# --- Alive, but --------------------------------------------------------------------------------------


async def test_a_gpu_that_is_not_there_is_a_warning(ward, demo):
    await ward.admit(demo, "-ngl", "99")
    await ward.until_ready()
    log = (ward.log_dir / "default.log").read_text()
    if "no usable GPU found" not in log and "offloaded 0/" not in log:
        pytest.skip("this llama-server has found a GPU")
    assert len(ward.seen.warnings) == 1
    assert "computes on the CPU" in ward.seen.warnings[0]
    state = await db(ServerState.objects.get)
    assert state.warnings == list(ward.seen.warnings)
