"""Rules of all tests: how many run at once, what fails each of them, and what they may be sent."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from supervisor_app.gateway.plane.stages import illegal_steps
from tests.acceptance.children import MANAGE, environment
from tests.acceptance.forking import Template
from tests.workers import fork_workers

illegal_steps.are_raised = True

# The same examples in each run and no time limit: a red run speaks of the change. For others, and for more of them:
# --hypothesis-profile=default, and --hypothesis-seed=N.
settings.load_profile("ci")

GARBAGE_OBJECTS = 5000
"""Objects more than before, after which garbage is searched for among the youngest."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run the whole suite in four workers for each core, because half of its tests wait for processes.

    With two, the cores of a machine with two are idle for a quarter of the time, with three for a sixth.

    A choice of tests runs in this process: its output is seen at once, and it needs no workers to start.
    """
    is_all = config.args_source is not pytest.Config.ArgsSource.ARGS
    return 4 * (os.cpu_count() or 1) if is_all else 0


def pytest_cmdline_main(config: pytest.Config) -> None:
    """Load the product once for several workers. After pytest-xdist has decided how many there are."""
    if len(config.option.tx) > 1 and sys.platform == "linux":
        fork_workers(config)


def pytest_collection() -> None:
    """Search for no garbage while tests are collected: a tenth of that time, and all that is made stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what all tests share out of each search for garbage, and have that searched less often.

    Garbage is searched for when it might be a quarter of all objects: beside 13 000 tests that hardly ever happened, and
    what the tests had left, gigabytes and a thousand open files, stayed. A search each 700 objects is 4 % of the CPU.
    """
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mix the files of all kinds of tests: some compute all the time, others wait most of it.

    One kind after the other, workers would first wait for processes together, and then for a core. Acceptance tests
    are spread over less than the whole, because the longest files are among them.
    """
    kinds: dict[str, dict[Path, None]] = {}
    for item in items:
        kinds.setdefault(kind_of(item), {})[item.path] = None
    place = {
        path: index / len(files) * (0.8 if kind == "acceptance" else 1)
        for kind, files in kinds.items()
        for index, path in enumerate(files)
    }
    items.sort(key=lambda item: place[item.path])


@pytest.fixture(autouse=True)
def collector():
    """Garbage is searched for after each test as before it."""
    yield
    assert gc.isenabled()


def kind_of(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).parts[0]


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A data directory as a first start leaves it, made by the first worker that needs it: it takes 2.4 s of CPU."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    data = shared / "installed" / "var"
    with (shared / "installed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not data.exists():
            draft = data.with_name("draft")
            draft.mkdir(parents=True)
            command = [sys.executable, str(MANAGE), "migrate", "--verbosity", "0"]
            subprocess.run(
                command, cwd=draft.parent, env=environment(LLAMAPROXY_DATA_DIR=str(draft)), check=True
            )
            draft.rename(data)
    return data


@pytest.fixture(scope="session")
def template():
    """Where manage.py comes from in most tests. Tests of a start itself have none, and load all anew."""
    if sys.platform != "linux":
        yield None
        return
    with Template(environment()) as template:
        yield template


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """What a shell starts in the background ignores SIGINT, with nohup SIGHUP, and hands that down."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
