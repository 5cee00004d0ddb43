"""A llama-server or the bundled engine, run as a process and asked over HTTP."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from supervisor_app.core.diagnosis.diagnose import diagnose
from supervisor_app.core.sightings import Exit
from supervisor_app.engine.resolve import LAUNCHER
from tests.deadline import DEADLINE
from tests.ports import free_port

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
        clean = {key: value for key, value in os.environ.items() if not key.startswith("LLAMA_")}
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
"""Flags that both engines refuse, and the line with which they do."""
