"""A process that has loaded what manage.py loads, and becomes manage.py, by fork, as often as the tests ask.

Loading modules is most of a start from nothing, 0.7 of 0.9 s, and the suite starts manage.py 500 times.
What is read while they are loaded, settings and environment, is forgotten: each child reads them anew, in its own
environment and working directory, and sets up its apps anew, of modules that are there.

An order comes on standard input, with four descriptors: input, output and error output of the child, and a socket
that tells its pid and, later, its exit code.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import django
from axes.apps import AppConfig as AxesConfig
from django.apps import apps
from django.conf import settings
from django.db import connections
from django.utils.functional import empty

LARGEST_ORDER = 1 << 18
"""Bytes of an order, most of which are an environment."""
LIBRARIES = (
    "apprise",
    "autobahn.twisted.websocket",
    "channels.auth",
    "channels.generic.websocket",
    "django.contrib.admin",
    "django.contrib.staticfiles.finders",
    "django.core.handlers.asgi",
    "django.core.management.commands.shell",
    "django.db.backends.sqlite3.base",
    "django.db.migrations.executor",
    "django_htmx.middleware",
    "prometheus_client.core",
    "requests",
    "twisted.internet.asyncioreactor",
    "twisted.internet.endpoints",
    "twisted.web.http",
    "whitenoise.middleware",
)
ROOMS = (
    "alerts",
    "api",
    "common",
    "core",
    "fleet",
    "gateway",
    "library",
    "logs",
    "modelfiles",
    "pages",
    "roles",
    "traffic",
)
NOT_LOADED = ("migrations", "__main__", "roles.server")
"""Modules that few children need, or that run when they are loaded."""
OF_SETTINGS = ("llamaproxy.settings", "axes.conf")
"""Modules that read or add settings when they are loaded."""


def load() -> None:
    """Load what is the same in all children, and spare each of them the search for garbage in it."""
    gc.disable()
    for name in LIBRARIES:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as data:
        os.environ.update(DJANGO_SETTINGS_MODULE="llamaproxy.settings", LLAMAPROXY_DATA_DIR=data)
        django.setup()
        for room in ROOMS:
            package = importlib.import_module(f"supervisor_app.{room}")
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                if not module.name.endswith(NOT_LOADED) and ".migrations." not in module.name:
                    importlib.import_module(module.name)
    forget_settings()
    assert "twisted.internet.reactor" not in sys.modules, "all children would share its sockets"
    gc.freeze()
    gc.enable()


def forget_settings() -> None:
    """Let the next `django.setup()` read settings and environment as if none had been read before."""
    for alias in connections:
        del connections[alias]
    del connections.settings
    connections._settings = None
    for name in OF_SETTINGS:
        del sys.modules[name]
    settings._wrapped = empty
    tempfile.tempdir = None
    AxesConfig.initialized = False  # else it does not add its settings again
    apps.app_configs.clear()
    apps.apps_ready = apps.models_ready = apps.ready = apps.loading = False
    apps.ready_event.clear()


def serve(orders: socket.socket, leash: int = -1) -> dict[str, Any] | None:
    """Fork for each order, and tell of each end. Returns in a child, with its order; None when the tests are over.

    `leash`: the end of this pipe is that of the tests, where nobody's end closes `orders`.
    """
    ends = select.poll()
    ends.register(orders, select.POLLIN)
    if leash >= 0:
        ends.register(leash, select.POLLIN)
    children: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for number, _ in ends.poll():
            if number == leash:
                return None
            if number in children:
                ends.unregister(number)
                pid, teller = children.pop(number)
                _, status = os.waitpid(pid, 0)
                tell(teller, os.waitstatus_to_exitcode(status))
                teller.close()
                os.close(number)
                continue
            order, descriptors, _, _ = socket.recv_fds(orders, LARGEST_ORDER, 4)
            if not order:
                return None
            pid = os.fork()
            if not pid:
                for standard, descriptor in enumerate(descriptors[:3]):
                    os.dup2(descriptor, standard)
                return dict(json.loads(order))
            for descriptor in descriptors[:3]:
                os.close(descriptor)
            teller = socket.socket(fileno=descriptors[3])
            tell(teller, pid)
            ending = os.pidfd_open(pid)
            ends.register(ending, select.POLLIN)
            children[ending] = pid, teller


def tell(teller: socket.socket, number: int) -> None:
    with suppress(BrokenPipeError):  # who started this child does not want to know
        teller.send(str(number).encode())


def take_over(order: dict[str, Any]) -> None:
    """Take the environment and the directory of an order, and nothing of the template's but its modules."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["directory"])


def become(order: dict[str, Any]) -> None:
    """Run the script of an order as if this process had been started with it."""
    take_over(order)
    sys.argv = order["arguments"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


def main() -> None:
    load()
    # A copy, since a child gets another standard input.
    order = serve(socket.socket(fileno=os.dup(0)))
    if order is not None:
        become(order)


if __name__ == "__main__":
    main()
