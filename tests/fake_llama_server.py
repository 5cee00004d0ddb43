#!/usr/bin/env python3
"""A scripted llama-server: a real process that does on demand what the real one rarely does.

Only the standard library, so that it starts in a blink. It takes llama-server's flags (those it does not
know are ignored) and a script in `--fake-…` flags; with `--fake-while FILE` the script is in force only as
long as that file exists. Like the real one it binds before it loads, answers 503 while loading, and has no
signal handlers until it is ready. Times are seconds, and `--fake-exit-after` and `--fake-hang-after` count
from the start, not from being ready.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOADING = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
UNAUTHORIZED = {"error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401}}
NOT_FOUND = {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}
PUBLIC = {"/health", "/v1/health"}
CHAT = {"/v1/chat/completions", "/chat/completions"}
FOR_EVER = 10**8.0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("-m", "--model", default="models/fake.gguf")
    parser.add_argument("-a", "--alias")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("-c", "--ctx-size", type=int, default=2048)
    parser.add_argument("-np", "--parallel", type=int, default=4)
    parser.add_argument("--metrics", action="store_true")
    parser.add_argument("--fake-load-seconds", type=float, default=0.0)
    parser.add_argument("--fake-refuse-seconds", type=float, default=0.0)
    parser.add_argument("--fake-ignore-sigterm", action="store_true")
    parser.add_argument("--fake-exit-code", type=int, default=1)
    parser.add_argument("--fake-exit-after", type=float, default=FOR_EVER)
    parser.add_argument("--fake-exit-after-ready", type=float, default=FOR_EVER)
    parser.add_argument("--fake-hang-after", type=float, default=FOR_EVER)
    parser.add_argument("--fake-hang-while-loading", action="store_true")
    parser.add_argument("--fake-hang-completions", action="store_true", help="all else is answered")
    parser.add_argument("--fake-die-on", help="SIGSEGV when a request's body has this text")
    parser.add_argument("--fake-health-delay", type=float, default=0.0)
    parser.add_argument("--fake-stderr-line", action="append", default=[])
    parser.add_argument("--fake-log-garbage", action="store_true")
    parser.add_argument("--fake-models-status", type=int, default=200)
    parser.add_argument("--fake-crash-file", type=Path, help="exits 1 at start while it exists")
    parser.add_argument("--fake-child", action="store_true", help="leaves a child in its process group")
    parser.add_argument("--fake-rss-mb", type=int, default=0, help="allocated little by little while loading")
    parser.add_argument("--fake-token-seconds", type=float, default=0.0, help="between two tokens")
    parser.add_argument("--fake-spin", action="store_true", help="computes for ever when asked for a token")
    parser.add_argument(
        "--fake-mute-seconds", type=float, default=0.0, help="computes first, and answers nothing meanwhile"
    )
    parser.add_argument(
        "--fake-flood", type=int, default=0, help="writes so many MB a second once it is ready"
    )
    parser.add_argument("--fake-while", type=Path, help="the script is in force while this file exists")
    return parser


PARSER = build_parser()


def in_force(script: argparse.Namespace) -> argparse.Namespace:
    """The script as it counts now: without its faults once the file is gone that it depends on."""
    if script.fake_while is None or script.fake_while.exists():
        return script
    healthy = {
        name: PARSER.get_default(name) if name.startswith("fake_") else value
        for name, value in vars(script).items()
    }
    return argparse.Namespace(**healthy)


def say(line: str) -> None:
    write(line.encode() + b"\n")


def write(output: bytes) -> None:
    """Unbuffered: a signal handler says something, too. A full disk is no reason to end."""
    with contextlib.suppress(OSError):
        os.write(2, output)


class FakeServer(ThreadingHTTPServer):
    """The listening half; `options` is the script, the rest is what the answers are made of."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script: argparse.Namespace) -> None:
        self.script = script
        self.started = time.monotonic()
        self.ready = False
        self.held: list[bytes] = []
        self.busy = 0
        self.working = 0
        self.most_working = 0
        self.asked: list[str] = []
        self.decoded = 0
        self.mute_until = 0.0
        self.lock = threading.Lock()
        self.keys = {key for key in os.environ.get("LLAMA_API_KEY", "").split(",") if key}
        if ":" in script.host:
            self.address_family = socket.AF_INET6
        super().__init__((script.host, script.port), Handler)

    @property
    def options(self) -> argparse.Namespace:
        return in_force(self.script)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without HTTPServer's slow look for its own name
        self.server_name, self.server_port = self.options.host, self.server_address[1]

    def handle_error(self, *_: object) -> None:
        """A client that left is nothing to talk about."""

    @property
    def model(self) -> str:
        return str(self.options.alias or self.options.model)

    @property
    def hangs(self) -> bool:
        loading = not self.ready and self.options.fake_hang_while_loading
        return bool(loading or time.monotonic() - self.started >= self.options.fake_hang_after)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def version_string(self) -> str:
        return "llama.cpp"

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if not self.admitted(path):
            return
        if path in PUBLIC:
            time.sleep(self.server.options.fake_health_delay)
            self.answer(200, {"status": "ok"})
        elif path in ("/v1/models", "/models"):
            self.answer(self.server.options.fake_models_status, models(self.server))
        elif path == "/props":
            self.answer(200, props(self.server))
        elif path == "/slots":
            self.answer(200, slots(self.server))
        elif path == "/metrics" and self.server.options.metrics:
            self.answer(200, metrics(self.server), "text/plain; version=0.0.4")
        else:
            self.answer(404, NOT_FOUND)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.admitted(self.path):
            return
        if self.path not in CHAT and self.path != "/completion":
            self.answer(404, NOT_FOUND)
            return
        if self.server.options.fake_hang_completions:
            time.sleep(FOR_EVER)
        if (deadly := self.server.options.fake_die_on) and deadly.encode() in body:
            signal.raise_signal(signal.SIGSEGV)
        request = json.loads(body or b"{}")
        with self.server.lock:
            self.server.busy += 1
            self.server.asked.append(question(request))
        try:
            self.chat(request) if self.path in CHAT else self.complete(request)
        finally:
            with self.server.lock:
                self.server.busy -= 1

    def admitted(self, path: str) -> bool:
        """Hang, 503 and 401, in the order of the real one."""
        if self.server.hangs:
            time.sleep(FOR_EVER)
        while time.monotonic() < self.server.mute_until:
            time.sleep(0.05)
        if not self.server.ready:
            self.answer(503, LOADING)
            return False
        given = self.headers.get("Authorization", "").removeprefix("Bearer ") or self.headers.get("X-Api-Key")
        if self.server.keys and path not in PUBLIC and given not in self.server.keys:
            self.answer(401, UNAUTHORIZED)
            return False
        return True

    def answer(self, status: int, body: Any, kind: str = "application/json; charset=utf-8") -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def chat(self, request: dict[str, Any]) -> None:
        wanted = int(request.get("max_tokens") or 8)
        base = {"id": "chatcmpl-fake", "created": int(time.time()), "model": self.server.model}
        base["system_fingerprint"] = f"pid-{os.getpid()}"
        usage = {"prompt_tokens": 1, "completion_tokens": wanted, "total_tokens": wanted + 1}
        if request.get("stream"):
            asked = (request.get("stream_options") or {}).get("include_usage")
            return self.stream(wanted, {**base, "object": "chat.completion.chunk"}, usage if asked else None)
        message = {"role": "assistant", "content": "".join(self.tokens(wanted))}
        choice = {"index": 0, "finish_reason": "length", "message": message}
        self.answer(200, {**base, "object": "chat.completion", "choices": [choice], "usage": usage})

    def complete(self, request: dict[str, Any]) -> None:
        """The engine's own endpoint."""
        wanted = int(request.get("n_predict") or 8)
        self.answer(200, {"content": "".join(self.tokens(wanted)), "tokens_predicted": wanted, "stop": True})

    def stream(self, wanted: int, base: dict[str, Any], usage: dict[str, int] | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        self.event(base, {"role": "assistant", "content": None}, None)
        for token in self.tokens(wanted):
            self.event(base, {"content": token}, None)
        self.event(base, {}, "length")
        if usage:
            last = {**base, "choices": [], "usage": usage}
            self.chunk(b"data: " + json.dumps(last).encode() + b"\n\n")
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def tokens(self, wanted: int) -> Any:
        with self.working():
            self.server.mute_until = time.monotonic() + self.server.options.fake_mute_seconds
            while time.monotonic() < self.server.mute_until:
                hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000)
            for number in range(wanted):
                while self.server.options.fake_spin:
                    hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000)  # no GIL: /health is still answered
                time.sleep(self.server.options.fake_token_seconds)
                with self.server.lock:
                    self.server.decoded += 1
                yield f" word{number}"

    @contextlib.contextmanager
    def working(self) -> Any:
        """Counted before anybody can have the end of the answer."""
        with self.server.lock:
            self.server.working += 1
            self.server.most_working = max(self.server.most_working, self.server.working)
        try:
            yield
        finally:
            with self.server.lock:
                self.server.working -= 1

    def event(self, base: dict[str, Any], delta: dict[str, Any], finish: str | None) -> None:
        choice = {"index": 0, "finish_reason": finish, "delta": delta}
        self.chunk(b"data: " + json.dumps({**base, "choices": [choice]}).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):X}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


def question(request: dict[str, Any]) -> str:
    """Return what was said last."""
    messages = request.get("messages") or [{"content": request.get("prompt")}]
    return str(messages[-1]["content"])


def models(server: FakeServer) -> dict[str, Any]:
    if server.options.fake_models_status != 200:
        return NOT_FOUND
    name = server.model
    meta = {"n_vocab": 381, "n_ctx": server.options.ctx_size, "n_params": 131008, "size": 524032}
    old = {"name": name, "model": name, "modified_at": "", "size": "", "type": "model"}
    entry: dict[str, Any] = {"id": name, "aliases": [name], "tags": [], "object": "model"}
    entry |= {"created": int(time.time()), "owned_by": "llamacpp", "meta": meta}
    return {"models": [old], "object": "list", "data": [entry]}


def props(server: FakeServer) -> dict[str, Any]:
    return {
        "default_generation_settings": {"params": {}, "n_ctx": server.options.ctx_size},
        "total_slots": server.options.parallel,
        "model_alias": server.model,
        "model_path": server.options.model,
        "build_info": "b0-fake",
        "fake": {"most_at_once": server.most_working, "asked": server.asked},
    }


def slots(server: FakeServer) -> list[dict[str, Any]]:
    rest = {"n_ctx": server.options.ctx_size, "next_token": [{"n_decoded": server.decoded}]}
    return [
        {"id": number, "is_processing": number < server.busy, **rest}
        for number in range(server.options.parallel)
    ]


def metrics(server: FakeServer) -> str:
    return (
        f"llamacpp:n_decode_total {server.decoded}\n"
        f"llamacpp:requests_processing {min(server.busy, server.options.parallel)}\n"
        f"llamacpp:requests_deferred {max(0, server.busy - server.options.parallel)}\n"
    )


def leave(code: int) -> None:
    """End now, whatever the threads do."""
    os._exit(code)


def on_signal(*_: object) -> None:
    say("srv    operator(): operator(): cleaning up before exit...")
    leave(0)


def load(options: argparse.Namespace) -> list[bytes]:
    """Take the time and the memory that loading takes."""
    steps = max(1, options.fake_rss_mb, int(options.fake_load_seconds * 20))
    held = []
    for step in range(steps):
        held.append(b"\1" * 2**20 if step < options.fake_rss_mb else b"")
        time.sleep(options.fake_load_seconds / steps)
    return held


def flood(server: FakeServer) -> None:
    """Flood the log as a server that complains about each token."""
    while True:
        megabytes = server.options.fake_flood
        if megabytes:
            write((b"x" * 1023 + b"\n") * 1024)
        time.sleep(1 / (megabytes or 10))


def before_listening(options: argparse.Namespace) -> None:
    if options.fake_ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in options.fake_stderr_line:
        say(line)
    if options.fake_log_garbage:
        write(b"x" * 2**20 + b"\n\xff\xfe\x80 not UTF-8 \x00\n")
    if options.fake_crash_file and options.fake_crash_file.exists():
        say(f"fake: {options.fake_crash_file} exists")
        leave(1)
    if options.fake_exit_after == 0:
        leave(options.fake_exit_code)
    if options.fake_child:
        subprocess.Popen(["sleep", "3600"])
    if options.fake_exit_after < FOR_EVER:
        threading.Timer(options.fake_exit_after, leave, [options.fake_exit_code]).start()
    time.sleep(options.fake_refuse_seconds)


def main() -> None:
    if "--version" in sys.argv:
        say("version: 1 (fake)")
        return
    script = PARSER.parse_known_args(sys.argv[1:])[0]
    options = in_force(script)
    before_listening(options)
    try:
        server = FakeServer(script)
    except OSError:
        say(f"couldn't bind HTTP server socket, hostname: {options.host}, port: {options.port}")
        say("srv  llama_server: exiting due to HTTP server error")
        leave(1)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(f"srv    load_model: loading model '{options.model}'")
    server.held = load(options)
    if not options.fake_ignore_sigterm:
        signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    server.ready = True
    say(f"srv  llama_server: listening on http://{options.host}:{server.server_port}")
    if script.fake_flood:
        threading.Thread(target=flood, args=[server], daemon=True).start()
    ready_at = time.monotonic()
    while time.monotonic() - ready_at < server.options.fake_exit_after_ready:
        time.sleep(0.02)
    leave(script.fake_exit_code)


if __name__ == "__main__":
    main()
