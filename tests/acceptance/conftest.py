"""The parts of an installation, made once: a model, a database, an engine."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from supervisor_app.engine.demo_model import make_demo_model
from tests.acceptance.harness import Proxy

ENGINE_ARGS = ["-c", "512", "-t", "1"]
"""Flags with a single thread: a tiny model gains nothing from more, and the machine is busy."""


def pytest_collection_modifyitems(items):
    for item in items:
        if "engine" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def engine():
    """The real one that the product will choose: "llama-server" or "bundled"."""
    if shutil.which("llama-server"):
        return "llama-server"
    if importlib.util.find_spec("xllamacpp"):
        return "bundled"
    pytest.skip(
        "no llama.cpp: put llama-server on PATH (https://github.com/ggml-org/llama.cpp), "
        "or pip install '.[engine]'"
    )


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny GGUF. Tests that break it copy it first."""
    pytest.importorskip("gguf", reason="the demo model needs: pip install '.[engine]'")
    return make_demo_model(tmp_path_factory.mktemp("model") / "demo.gguf")


@contextmanager
def maker(base, installed, template):
    """Makes proxies, each in a directory of its own; ends all that they started."""
    with ExitStack() as stack:

        def make(**config):
            directory = Path(tempfile.mkdtemp(prefix="proxy-", dir=base))
            shutil.copytree(installed, directory / "var")
            proxy = stack.enter_context(closing(Proxy(directory, **config)))
            proxy.template = template
            return proxy

        yield make


@pytest.fixture
def make_proxy(tmp_path, installed, template):
    with maker(tmp_path, installed, template) as make:
        yield make


@pytest.fixture(scope="module")
def make_shared(tmp_path_factory, installed, template):
    """Make a proxy at which several tests of a file only look."""
    with maker(tmp_path_factory.mktemp("shared"), installed, template) as make:
        yield make


@pytest.fixture(scope="module")
def serving(make_shared, engine, model):
    """A proxy for a whole file, ready, that recovers fast and forgets soon."""
    proxy = make_shared(
        llama_model_path=str(model), llama_server_args=ENGINE_ARGS, retry_backoff_ms=700, stable_after_ms=1000
    )
    proxy.start().wait_for_status("ready")
    return proxy


@pytest.fixture
def live(serving):
    """The same, for tests that disturb it and leave it ready."""
    serving.wait_for_status("ready")
    return serving


@pytest.fixture
def proxy(make_proxy, engine, model):
    """A proxy with the real engine and a good model; not started."""
    return make_proxy(llama_model_path=str(model), llama_server_args=ENGINE_ARGS)


@pytest.fixture
def ready(proxy):
    """The same, started and ready."""
    proxy.start().wait_for_status("ready")
    return proxy


@pytest.fixture
def fake(make_proxy):
    """A proxy with the scripted llama-server; not started. `fake.script(…)` says what it does."""
    proxy = make_proxy(retry_backoff_ms=50)
    proxy.script()
    return proxy
