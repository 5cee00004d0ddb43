"""Engines and their models, for tests of the processes themselves."""

from __future__ import annotations

import pytest

from supervisor_app.engine.demo_model import make_demo_model
from tests.integration.engine.running import PADDING_MB, Running, command_of


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


@pytest.fixture(scope="module")
def large_model(tmp_path_factory):
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    path = make_demo_model(tmp_path_factory.mktemp("large") / "large.gguf", padding_mb=PADDING_MB)
    yield str(path)
    path.unlink()
