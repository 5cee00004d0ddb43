from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.ports import free_port

FAKE = Path(__file__).parents[1] / "fake_llama_server.py"


class Fake:
    def __init__(self, log, *flags, env=None):
        self.port = free_port()
        self.log = log
        command = [sys.executable, "-I", str(FAKE), "-m", "m.gguf", "--port", str(self.port), *flags]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True, env=os.environ | (env or {})
            )

    def get(self, path, body=None, timeout=2.0, **headers):
        """Status, headers and body; None when nobody listens."""
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(
                Request(f"http://127.0.0.1:{self.port}{path}", data, headers), timeout=timeout
            ) as answer:
                return answer.status, answer.headers, answer.read()
        except HTTPError as error:
            return error.code, error.headers, error.read()
        except TimeoutError:
            return "silent"
        except OSError as error:
            return "silent" if isinstance(error.__cause__ or error.args[0], TimeoutError) else None

    def until(self, wanted, deadline=10.0):
        """Asks /health until it says so; returns what it said before."""
        seen: list[object] = []
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            answer = self.get("/health")
            state = answer[0] if isinstance(answer, tuple) else answer
            if state == wanted:
                return seen
            seen.append(state)
            time.sleep(0.02)
        raise AssertionError(f"never {wanted}: {seen[-1]}, log: {self.log.read_bytes()[-500:]!r}")


@pytest.fixture
def fake(tmp_path):
    fakes: list[Fake] = []

    def start(*flags, env=None):
        fakes.append(Fake(tmp_path / f"{len(fakes)}.log", *flags, env=env))
        return fakes[-1]

    yield start
    for one in fakes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait(10)


def test_the_fake_loads_then_serves_then_ends_on_sigterm(fake):
    server = fake("--fake-load-seconds", "0.3", "-ngl", "99", "--no-such-flag")
    assert 503 in server.until(200)
    assert server.get("/health")[1]["Server"] == "llama.cpp"
    assert json.loads(server.get("/v1/models")[2])["data"][0]["id"] == "m.gguf"
    assert json.loads(server.get("/props")[2])["total_slots"] == 4
    assert len(json.loads(server.get("/slots")[2])) == 4
    assert server.get("/metrics")[0] == 404
    assert server.get("/api/models")[0] == 404
    server.process.terminate()
    assert server.process.wait(5) == 0


def test_sigterm_while_loading_kills_the_fake_as_the_real_one(fake):
    server = fake("--fake-load-seconds", "60")
    server.until(503)
    server.process.terminate()
    assert server.process.wait(5) == -signal.SIGTERM


def test_the_fake_chats_whole_and_streamed(fake):
    server = fake("--metrics")
    server.until(200)
    whole = json.loads(server.get("/v1/chat/completions", {"max_tokens": 3})[2])
    assert whole["choices"][0]["message"]["content"] == " word0 word1 word2"
    streamed = server.get("/v1/chat/completions", {"max_tokens": 3, "stream": True})[2].decode()
    assert streamed.count("data: {") == 5
    assert streamed.endswith("data: [DONE]\n\n")
    assert b"n_decode_total 6" in server.get("/metrics")[2]


def test_the_fake_completes_text_and_has_no_embeddings(fake):
    server = fake()
    server.until(200)
    assert json.loads(server.get("/completion", {"n_predict": 1})[2])["content"] == " word0"
    assert server.get("/embedding", {})[0] == 404


def test_the_fake_can_answer_all_but_completions(fake):
    server = fake("--fake-hang-completions")
    server.until(200)
    assert server.get("/completion", {"n_predict": 1}, timeout=0.3) == "silent"
    assert server.get("/v1/chat/completions", {"max_tokens": 1}, timeout=0.3) == "silent"
    assert not any(slot["is_processing"] for slot in json.loads(server.get("/slots")[2]))


def test_a_key_guards_all_but_health(fake):
    server = fake(env={"LLAMA_API_KEY": "secret"})
    server.until(200)
    assert server.get("/v1/models")[0] == 401
    assert server.get("/v1/models", Authorization="Bearer secret")[0] == 200


def test_the_fake_ends_with_the_code_and_the_words_it_was_given(fake):
    server = fake("--fake-exit-after", "0.1", "--fake-exit-code", "3", "--fake-stderr-line", "last words")
    assert server.process.wait(10) == 3
    assert "last words" in server.log.read_text()


def test_the_fake_ends_after_having_been_ready(fake):
    server = fake("--fake-exit-after-ready", "0.3")
    server.until(200)
    assert server.process.wait(10) == 1


def test_the_fake_hangs_with_an_open_port(fake):
    server = fake("--fake-hang-after", "0.5")
    server.until(200)
    time.sleep(0.5)
    assert server.get("/health", timeout=0.3) == "silent"


def test_the_fake_can_hang_while_loading_and_refuse_before(fake):
    server = fake("--fake-refuse-seconds", "0.5", "--fake-hang-while-loading", "--fake-load-seconds", "60")
    assert server.get("/health", timeout=0.3) is None
    server.until("silent")


def test_the_fake_ignores_sigterm_when_asked_to(fake):
    server = fake("--fake-ignore-sigterm", "--fake-health-delay", "0.1")
    server.until(200)
    server.process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(0.3)


def test_the_fake_crashes_while_a_file_exists(fake, tmp_path):
    file = tmp_path / "crash"
    file.touch()
    assert fake("--fake-crash-file", str(file)).process.wait(10) == 1
    file.unlink()
    fake("--fake-crash-file", str(file)).until(200)


def test_the_fake_leaves_a_child_takes_memory_and_writes_garbage(fake):
    server = fake("--fake-child", "--fake-rss-mb", "40", "--fake-log-garbage", "--fake-models-status", "404")
    server.until(200)
    process = psutil.Process(server.process.pid)
    assert [child.name() for child in process.children()] == ["sleep"]
    assert process.memory_info().rss > 40 * 2**20
    assert server.log.stat().st_size > 2**20
    assert server.get("/v1/models")[0] == 404


def test_the_script_of_the_fake_is_in_force_while_a_file_exists(fake, tmp_path):
    file = tmp_path / "ill"
    server = fake("--fake-exit-after-ready", "0", "--fake-exit-code", "3", "--fake-while", str(file))
    server.until(200)
    file.touch()
    assert server.process.wait(10) == 3


def test_the_fake_spins_and_still_says_that_it_is_well(fake, tmp_path):
    server = fake("--fake-spin")
    server.until(200)
    assert server.get("/v1/chat/completions", {"max_tokens": 1}, timeout=0.5) == "silent"
    assert server.get("/health")[0] == 200
    (slot,) = [slot for slot in json.loads(server.get("/slots")[2]) if slot["is_processing"]]
    assert slot["next_token"][0]["n_decoded"] == 0


def test_the_fake_dies_of_a_text(fake):
    server = fake("--fake-die-on", "poison")
    server.until(200)
    assert server.get("/v1/chat/completions", {"prompt": "cure", "max_tokens": 1})[0] == 200
    assert server.get("/v1/chat/completions", {"prompt": "poison", "max_tokens": 1}) is None
    assert server.process.wait(10) == -signal.SIGSEGV


def test_the_fake_floods_its_log(fake):
    server = fake("--fake-flood", "50")
    end = time.monotonic() + 10
    while server.log.stat().st_size < 5 * 2**20:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_taken_port_ends_the_fake_with_the_real_line(fake, tmp_path):
    first = fake()
    first.until(200)
    second = subprocess.run(
        [sys.executable, "-I", str(FAKE), "--port", str(first.port)],
        capture_output=True,
        timeout=10,
        text=True,
    )
    assert second.returncode == 1
    assert f"couldn't bind HTTP server socket, hostname: 127.0.0.1, port: {first.port}" in second.stderr
