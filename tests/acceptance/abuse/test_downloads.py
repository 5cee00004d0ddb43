"""llama-server fetches its model itself: from a source that is slow, or not there yet."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from tests.acceptance.conftest import ENGINE_ARGS
from tests.ports import free_port

STEPS = 40
QUICK = {"health_check_interval_ms": 100, "max_health_checks": 30, "retry_backoff_ms": 200, "max_retries": 1}
"""Silence may last 3 s: less than a third of the download."""


COMMIT = "0123456789abcdef" * 2 + "01234567"


def index(path: str, data: bytes) -> bytes:
    """Return what Hugging Face tells of a repository with one file, in JSON; empty: the path is the file's."""
    if path.endswith("/refs"):
        return json.dumps({"branches": [{"name": "main", "targetCommit": COMMIT}], "tags": []}).encode()
    if "/tree/" in path:
        digest = hashlib.sha256(data).hexdigest()
        file = {"type": "file", "path": "tiny-Q8_0.gguf", "size": len(data), "oid": "a" * 40}
        return json.dumps([{**file, "lfs": {"oid": digest, "size": len(data)}}]).encode()
    return b""


@contextmanager
def source(port: int, data: bytes, *, seconds: float):
    """Serves one file, which takes so long, at any address, and as a repository of Hugging Face."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(index(self.path, data) or data)))
            self.send_header("ETag", '"one"')
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            if told := index(self.path, data):
                self.wfile.write(told)
                return
            size = -(-len(data) // STEPS)
            for start in range(0, len(data), size):
                self.wfile.write(data[start : start + size])
                time.sleep(seconds / STEPS)

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@pytest.fixture
def fetching(make_proxy, engine, model, tmp_path):
    """A proxy whose model is at an address, and will be at a path."""
    if engine != "llama-server":
        pytest.skip("the bundled engine fetches nothing")
    port = free_port()
    args = [*ENGINE_ARGS, "-mu", f"http://127.0.0.1:{port}/model.gguf"]
    proxy = make_proxy(llama_model_path=str(tmp_path / "fetched.gguf"), llama_server_args=args, **QUICK)
    proxy.port, proxy.data = port, model.read_bytes()
    return proxy


def test_a_download_may_take_longer_than_any_start(fetching):
    with source(fetching.port, fetching.data, seconds=10):
        fetching.start()
        fetching.wait_for(
            "the download is shown",
            lambda: "Downloading the model" in fetching.status().get("detail", ""),
        )
        fetching.wait_for_status("ready")
    assert len(fetching.runs()) == 1


def test_a_download_without_a_network_is_tried_until_there_is_one(fetching):
    fetching.start()
    fetching.wait_for_line("could not be downloaded", times=4)
    status = fetching.status()
    assert status["retries"] == 0
    assert status["failure"]["kind"] == "download_failed"
    with source(fetching.port, fetching.data, seconds=0):
        fetching.wait_for_status("ready")


def test_a_repository_needs_no_model_path(make_proxy, engine):
    """And without a network none is said to be missing."""
    if engine != "llama-server":
        pytest.skip("the bundled engine fetches nothing")
    proxy = make_proxy(llama_server_args=[*ENGINE_ARGS, "-hf", "nobody/nothing-GGUF"], **QUICK)
    proxy.env["HF_ENDPOINT"] = "http://127.0.0.1:1"
    proxy.start().wait_for_line("could not be downloaded", times=3)
    assert "-m ./models/model.gguf" not in proxy.console
    assert "Model file missing" not in proxy.console


def test_a_repository_is_fetched_once_shown_meanwhile_and_started_without_a_network(
    make_proxy, engine, model, tmp_path
):
    if engine != "llama-server":
        pytest.skip("the bundled engine fetches nothing")
    port = free_port()
    proxy = make_proxy(llama_server_args=[*ENGINE_ARGS, "-hf", "somebody/tiny"], **QUICK)
    proxy.env |= {"HF_ENDPOINT": f"http://127.0.0.1:{port}/", "LLAMA_CACHE": str(tmp_path / "cache")}
    with source(port, model.read_bytes(), seconds=10):
        proxy.start()
        proxy.wait_for(
            "the download is shown", lambda: "Downloading the model" in proxy.status().get("detail", "")
        )
        ready = proxy.wait_for_status("ready")
    assert len(proxy.runs()) == 1
    psutil.Process(ready["pid"]).kill()
    proxy.wait_for_new_pid(ready["pid"])
