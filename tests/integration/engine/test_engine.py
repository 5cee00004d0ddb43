"""Both engines side by side: what the bundled one must do as llama-server does it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from supervisor_app.core.diagnosis.diagnose import diagnose
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import FailureKind
from supervisor_app.engine import launcher
from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.engine.resolve import LAUNCHER
from tests.deadline import DEADLINE
from tests.ports import free_port

pytestmark = pytest.mark.engine

PADDING_MB = 512
"""Loads in some 100 ms: long enough to look at it while it does."""


def command_of(name):
    """The engine's command; skips, saying what to install."""
    if name == "llama-server":
        if found := shutil.which("llama-server"):
            return [found]
        pytest.skip("install llama.cpp (https://github.com/ggml-org/llama.cpp)")
    pytest.importorskip("xllamacpp", reason="pip install '.[engine]'")
    return [sys.executable, "-I", str(LAUNCHER)]


class Running:
    """The process of an engine, its output in a file."""

    def __init__(self, command, log, *flags, env=None):
        # Coverage, too, would catch SIGTERM in the bundled engine, and die of it.
        clean = {
            key: value for key, value in os.environ.items() if not key.startswith(("LLAMA_", "COVERAGE_"))
        }
        self.log = log
        self.port = free_port()
        if "--port" not in flags:
            flags = ("--port", str(self.port), *flags)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**clean, **(env or {})},
                start_new_session=True,
            )

    @property
    def lines(self):
        return self.log.read_text(errors="replace").splitlines()

    def get(self, path, body=None, timeout=DEADLINE, **headers):
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def until(self, status):
        """Wait until /health answers this status; return all that it answered before."""
        seen: list[int | None] = []
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end and self.process.poll() is None:
            try:
                answer = self.get("/health", timeout=2)[0]
            except OSError:
                answer = None
            if answer == status:
                return seen
            seen.append(answer)
            time.sleep(0.002)
        raise AssertionError(f"/health was never {status}, exit {self.process.poll()}: {self.lines[-20:]}")

    def until_it_catches(self, number):
        """Wait until its handler of a signal is there: a blink after /health says 200."""
        status = Path(f"/proc/{self.process.pid}/status")
        if not status.exists():
            time.sleep(0.5)
            return
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            mask = re.search(r"^SigCgt:\s*(\w+)", status.read_text(), re.MULTILINE)
            if mask and int(mask[1], 16) & 1 << (number - 1):
                return
            time.sleep(0.005)
        raise AssertionError(f"it never caught {number}")

    def until_it_works(self):
        """Wait until its main loop runs, which alone answers /slots.

        llama-server b11669 begins that loop with `running = true` after its handler is there: a signal in between
        is forgotten, and it serves on (once in 1000 starts that got SIGTERM within 3 ms).
        """
        assert self.get("/slots")[0] == 200

    def ended(self):
        """The exit code, negative for a signal."""
        return self.process.wait(DEADLINE)

    def failure(self):
        """Return what the diagnosis says of its end."""
        code = self.ended()
        how = Exit(signal=-code) if code < 0 else Exit(code=code)
        return diagnose(how, self.lines, was_ready=False).failure


@pytest.fixture
def start(tmp_path):
    """Starts engines by name and ends them after the test."""
    running: list[Running] = []

    def run(name, *flags, env=None, limit_kib=None):
        log = tmp_path / f"engine-{len(running)}.log"
        command = command_of(name)
        if limit_kib:
            command = ["sh", "-c", f'ulimit -v {limit_kib}; exec "$@"', "sh", *command]
        running.append(Running(command, log, *flags, env=env))
        return running[-1]

    yield run
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait(10)


@pytest.fixture(params=["llama-server", "bundled"])
def engine(request):
    command_of(request.param)
    return request.param


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    return str(make_demo_model(tmp_path_factory.mktemp("demo") / "demo.gguf"))


@pytest.fixture(scope="module")
def large_model(tmp_path_factory):
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    path = make_demo_model(tmp_path_factory.mktemp("large") / "large.gguf", padding_mb=PADDING_MB)
    yield str(path)
    path.unlink()


def test_the_bundled_engine_serves_like_llama_server(start, engine, model):
    server = start(engine, "-m", model, "-t", "1", "-a", "demo", "--metrics")
    server.until(200)
    chat = json.loads(server.get("/v1/chat/completions", {"messages": [], "max_tokens": 5})[1])
    assert chat["usage"]["completion_tokens"] == 5
    assert json.loads(server.get("/v1/models")[1])["data"][0]["id"] == "demo"
    props = json.loads(server.get("/props")[1])
    assert (props["total_slots"], props["model_path"]) == (4, model)
    assert props["default_generation_settings"]["n_ctx"] == 2048
    assert server.get("/slots")[0] == 200
    assert "llamacpp:n_decode_total" in server.get("/metrics")[1]
    assert server.get("/api/models")[0] == 404


def test_an_engine_says_503_while_it_loads(start, engine, large_model):
    server = start(engine, "-m", large_model, "-t", "1", "-lm", "none")
    assert 503 in server.until(200)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_one_with_code_0(start, engine, model, number):
    server = start(engine, "-m", model, "-t", "1")
    server.until(200)
    server.until_it_catches(number)
    server.until_it_works()
    server.process.send_signal(number)
    assert server.ended() == 0
    assert any("cleaning up before exit..." in line for line in server.lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_kills_a_loading_one(start, engine, large_model, number):
    server = start(engine, "-m", large_model, "-t", "1", "-lm", "none")
    server.until(503)
    server.process.send_signal(number)
    assert server.ended() == -number


def test_the_key_comes_from_the_environment(start, engine, model):
    server = start(engine, "-m", model, "-t", "1", env={"LLAMA_API_KEY": "one,two"})
    server.until(200)
    assert server.get("/v1/models")[0] == 401
    assert server.get("/v1/models", Authorization="Bearer two")[0] == 200
    assert server.get("/v1/models", **{"X-Api-Key": "one"})[0] == 200


def test_flags_have_environment_variables(start, engine, model):
    env = {"LLAMA_ARG_MODEL": model, "LLAMA_ARG_N_PARALLEL": "2", "LLAMA_ARG_NO_JINJA": "1"}
    env |= {"LLAMA_ARG_CTX_SIZE": "512", "LLAMA_ARG_ENDPOINT_SLOTS": "off", "LLAMA_ARG_THREADS": "1"}
    server = start(engine, "-c", "1024", env=env)
    server.until(200)
    props = json.loads(server.get("/props")[1])
    assert props["total_slots"] == 2
    assert props["default_generation_settings"]["n_ctx"] == 512  # the flag wins: 1024 for two slots
    assert not props["endpoint_slots"]


def test_port_0_is_any_port_and_the_log_names_it(start, engine, model):
    server = start(engine, "-m", model, "-t", "1", "--port", "0")
    end = time.monotonic() + DEADLINE
    while not (found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", "\n".join(server.lines))):
        assert time.monotonic() < end, server.lines
        time.sleep(0.01)
    server.port = int(found[1])
    server.until(200)


BAD_FLAGS = [
    (["--frobnicate"], "error: invalid argument: --frobnicate"),
    (["model.gguf"], "error: invalid argument: model.gguf"),
    (["--metrics=1"], "error: invalid argument: --metrics=1"),
    # Gone upstream in favour of --load-mode.
    (["--mlock"], "error: invalid argument: --mlock"),
    (["-c", "many"], 'error while handling argument "-c": stoi'),
    (["--ctx-size", "99999999999"], 'error while handling argument "--ctx-size": stoi'),
    (["-c"], 'error while handling argument "-c": expected value for argument'),
    (["-np", "0"], 'error while handling argument "-np": error: invalid value for n_parallel'),
    (["--temp", "warm"], 'error while handling argument "--temp": stof'),
    (
        ["-fa", "maybe"],
        "error while handling argument \"-fa\": error: unknown value for --flash-attn: 'maybe'",
    ),
    (["-ctk", "q9"], 'error while handling argument "-ctk": Unsupported cache type: q9'),
    (["-lm", "quick"], 'error while handling argument "-lm": invalid value'),
    (["--host", ""], 'error while handling argument "--host": --host requires at least one address'),
    (
        ["--api-key-file", "/no/such/keys"],
        "error while handling argument \"--api-key-file\": error: failed to open file '/no/such/keys'",
    ),
]


@pytest.mark.parametrize(("flags", "line"), BAD_FLAGS)
def test_a_bad_flag_ends_it_with_the_same_line(start, engine, flags, line):
    server = start(engine, "-m", "none.gguf", *flags)
    assert server.ended() == 1
    assert server.lines[0] == line
    failure = server.failure()
    assert (failure.kind, failure.detail) == (FailureKind.BAD_ARGUMENT, line)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        (
            "LLAMA_ARG_CTX_SIZE",
            "many",
            'error while handling environment variable "LLAMA_ARG_CTX_SIZE": stoi',
        ),
        (
            "LLAMA_ARG_JINJA",
            "maybe",
            'error while handling environment variable "LLAMA_ARG_JINJA": invalid boolean value',
        ),
    ],
)
def test_a_bad_environment_variable_ends_it_with_the_same_line(start, engine, name, value, line):
    server = start(engine, "-m", "none.gguf", env={name: value})
    assert server.ended() == 1
    assert server.lines[0] == line


def without_tail(model, path):
    data = Path(model).read_bytes()
    path.write_bytes(data[:-1000])


def with_other_architecture(model, path):
    data = Path(model).read_bytes()
    name = b"general.architecture"
    start = data.index(name) + len(name)
    path.write_bytes(data[:start] + data[start:].replace(b"llama", b"llamq", 1))


BROKEN_MODELS = [
    ("missing", lambda model, path: None, FailureKind.MODEL_MISSING),
    ("folder", lambda model, path: path.mkdir(), FailureKind.MODEL_CORRUPT),
    ("empty", lambda model, path: path.touch(), FailureKind.MODEL_CORRUPT),
    ("garbage", lambda model, path: path.write_bytes(b")F\xff\xfe" * 999), FailureKind.MODEL_CORRUPT),
    ("header", lambda model, path: path.write_bytes(b"GGUF\3\0\0\0"), FailureKind.MODEL_CORRUPT),
    ("truncated", without_tail, FailureKind.MODEL_CORRUPT),
    ("architecture", with_other_architecture, FailureKind.MODEL_UNSUPPORTED),
]


@pytest.mark.parametrize(("name", "breaks", "kind"), BROKEN_MODELS, ids=[case[0] for case in BROKEN_MODELS])
def test_a_model_that_cannot_load_is_diagnosed(start, engine, model, tmp_path, name, breaks, kind):
    breaks(model, tmp_path / "x.gguf")
    server = start(engine, "-m", str(tmp_path / "x.gguf"), "-t", "1")
    assert server.ended() == 1
    assert server.failure().kind is kind
    assert server.failure().permanent
    assert any("exiting due to model loading error" in line for line in server.lines)


@pytest.mark.parametrize(
    ("flags", "limit_kib", "words"),
    [
        (["-lm", "none"], 600_000, "it needs 53"),
        (["-lm", "mmap"], 500_000, "mmap failed"),
        (["-c", "1000000000"], 4_000_000, "std::bad_alloc"),
    ],
    ids=["weights", "mmap", "context"],
)
def test_too_little_memory_is_diagnosed(start, engine, large_model, flags, limit_kib, words):
    server = start(engine, "-m", large_model, "-t", "1", *flags, limit_kib=limit_kib)
    failure = server.failure()
    assert failure.kind is FailureKind.OUT_OF_MEMORY
    assert words in failure.detail


def test_a_setting_that_does_not_fit_the_model_is_diagnosed(start, engine, model):
    server = start(engine, "-m", model, "-t", "1", "-ctv", "q4_0", "-fa", "off")
    assert server.failure().kind is FailureKind.BAD_ARGUMENT


def test_an_assertion_is_diagnosed_as_a_crash(start, engine, model):
    server = start(engine, "-m", model, "-t", "1", "-b", "0")
    failure = server.failure()
    assert failure.kind is FailureKind.KILLED_BY_SIGNAL
    assert "GGML_ASSERT" in failure.detail


def test_a_taken_port_ends_it_before_it_loads(start, engine, large_model):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        server = start(engine, "-m", large_model, "--port", str(port))
        failure = server.failure()
    assert server.ended() == 1
    assert failure.kind is FailureKind.PORT_TAKEN
    assert failure.detail == f"could not listen on 127.0.0.1 port {port}"
    assert not failure.permanent


# --- Where the bundled one differs on purpose ----------------------------------------------------------


@pytest.mark.parametrize("port", ["-1", "65536", "70000"])
def test_bundled_refuses_a_port_that_is_none(start, port):
    server = start("bundled", "-m", "none.gguf", "--port", port)
    assert server.ended() == 1
    assert server.lines == [f'error while handling argument "--port": {port} is not a port (0 to 65535)']


def test_bundled_refuses_router_mode_in_words(start):
    server = start("bundled")
    assert server.ended() == 1
    assert "-m FILE" in server.lines[0]


def test_bundled_names_the_flags_it_knows(start):
    server = start("bundled", "--models-dir", "x")
    assert server.ended() == 1
    assert "--ctx-size" in server.lines[1]


def test_bundled_ends_at_once_with_a_stream_in_flight(start, large_model):
    server = start("bundled", "-m", large_model, "-t", "1")
    server.until(200)
    body = json.dumps({"messages": [], "stream": True}).encode()
    with urlopen(
        Request(f"http://127.0.0.1:{server.port}/v1/chat/completions", body), timeout=DEADLINE
    ) as answer:
        assert answer.readline().startswith(b"data: ")
        began = time.monotonic()
        server.process.terminate()
        assert server.ended() == 0
    assert time.monotonic() - began < 5


def test_bundled_says_what_to_install_when_the_package_is_missing():
    # Without site-packages there is no xllamacpp.
    command = [sys.executable, "-I", "-S", str(LAUNCHER), "-m", "none.gguf"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert ended.returncode == 1
    assert "pip install '.[engine]'" in ended.stderr
    failure = diagnose(Exit(code=1), ended.stderr.splitlines(), was_ready=False).failure
    assert failure.kind is FailureKind.LIBRARY_MISSING


# --- The launcher's flags, without a process -----------------------------------------------------------


@pytest.mark.parametrize(("flags", "line"), BAD_FLAGS)
def test_a_bad_flag_is_refused_before_anything_is_loaded(flags, line):
    with pytest.raises(SystemExit) as ended:
        list(launcher.from_arguments(flags))
    assert str(ended.value.code).splitlines()[0] == line


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, []),
        ({"LLAMA_ARG_PORT": "8134"}, [("port", 8134)]),
        ({"LLAMA_ARG_PORT": "+12x"}, [("port", 12)]),
        ({"LLAMA_API_KEY": "a,,b"}, [("api_keys", ["a", "b"])]),
        ({"LLAMA_ARG_N_GPU_LAYERS": "all"}, [("n_gpu_layers", -2)]),
        ({"LLAMA_ARG_THREADS": "0"}, [("cpuparams.n_threads", os.cpu_count())]),
        ({"LLAMA_ARG_ENDPOINT_METRICS": "on"}, [("endpoint_metrics", True)]),
        # A switch without an opposite cannot be turned off, and nonsense does not turn it on.
        ({"LLAMA_ARG_ENDPOINT_METRICS": "maybe"}, []),
        ({"LLAMA_ARG_ENDPOINT_SLOTS": "off"}, [("endpoint_slots", False)]),
        ({"LLAMA_ARG_NO_JINJA": ""}, [("use_jinja", False)]),
        ({"LLAMA_ARG_UNKNOWN": "1"}, []),
    ],
)
def test_the_environment_sets_what_flags_set(environ, expected):
    assert list(launcher.from_environment(environ)) == expected


@pytest.mark.parametrize("environ", [{"LLAMA_ARG_JINJA": "maybe"}, {"LLAMA_ARG_PORT": "70000"}])
def test_a_bad_environment_variable_is_refused_by_name(environ):
    (name,) = environ
    with pytest.raises(SystemExit, match=f'error while handling environment variable "{name}"'):
        list(launcher.from_environment(environ))


def test_the_last_flag_wins_and_keys_add_up(tmp_path):
    xllamacpp = pytest.importorskip("xllamacpp", reason="pip install '.[engine]'")
    keys = tmp_path / "keys"
    keys.write_text("# a comment\n\n three \nfour\n")
    arguments = ["-c", "1", "-c", "2", "--api_key", "one,two", "--api-key-file", str(keys), "-t", "3"]
    params = launcher.apply(list(launcher.from_arguments(arguments)), xllamacpp)
    assert params.n_ctx == 2
    assert params.api_keys == ["one", "two", "three", "four"]
    assert (params.cpuparams.n_threads, params.cpuparams_batch.n_threads) == (3, 3)
    assert (params.port, params.n_parallel) == (8080, -1)


def test_every_flag_and_switch_reaches_an_attribute(tmp_path):
    xllamacpp = pytest.importorskip("xllamacpp", reason="pip install '.[engine]'")
    samples = {"-fa": "on", "-ctk": "q8_0", "-ctv": "f16", "-lm": "mmap+mlock", "--pooling": "mean"}
    samples |= {
        "--chat-template-file": __file__,
        "--api-key-file": __file__,
        "--slot-save-path": str(tmp_path),
    }
    for flag in launcher.FLAGS:
        given = [flag.names[0], samples.get(flag.names[0], "1")]
        launcher.apply(list(launcher.from_arguments(given)), xllamacpp)
    for switch in launcher.SWITCHES:
        for name in (*switch.on, *switch.off):
            params = launcher.apply(list(launcher.from_arguments([name])), xllamacpp)
            assert getattr(params, switch.attribute) is ((name in switch.on) is not switch.inverted)
