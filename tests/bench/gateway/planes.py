"""What stands between client and server: nothing, nginx, the gateway."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from tests.acceptance.children import MANAGE, Child, listens, wait_for
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.harness import Proxy

DIRECT, NGINX, GATEWAY = NAMES = ("direct", "nginx", "gateway")
NO_NGINX = "nginx is not on PATH: its column is left out. On Debian: apt install nginx-light"
NGINX_CONF = """
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile 16384;
pid {directory}/nginx.pid;
error_log {directory}/error.log crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_max_body_size 0;
    client_body_buffer_size 1m;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream engine {{
        server 127.0.0.1:{upstream};
        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 1h;
        }}
    }}
}}
"""


@dataclass(frozen=True, kw_only=True)
class Plane:
    """A port to ask, and the processes that cost something there: `pid` and its children."""

    name: str
    port: int
    pid: int | None = None
    key: str = ""

    def cpu_seconds(self) -> float:
        """CPU time so far, to the nanosecond: /proc/PID/stat counts in hundredths of a second."""
        # As clock_getcpuclockid(3) makes it: the clock of another process.
        return sum(time.clock_gettime((~process.pid << 3) | 2) for process in self._processes())

    def rss_mb(self) -> float:
        return sum(process.memory_info().rss for process in self._processes()) / 1e6

    def _processes(self) -> list[psutil.Process]:
        if self.pid is None:
            return []
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]


def find_nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def nginx(program: str, directory: Path, upstream: int) -> Iterator[Plane]:
    """Its own process, with one worker, unbuffered, its connections to the server kept."""
    home = directory / "nginx"
    home.mkdir()
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # for its temporary files
    config = home / "nginx.conf"
    config.write_text(NGINX_CONF.format(directory=home, upstream=upstream, port=port, user=user))
    command = [program, "-p", str(home), "-e", str(home / "error.log"), "-c", str(config)]
    child = Child(command, home / "console.log", cwd=home)
    try:
        wait_for("nginx listens", lambda: listens(port), lambda: child.output)
        yield Plane(name=NGINX, port=port, pid=child.pid)
    finally:
        child.signal(signal.SIGTERM)
        child.wait()


def gateway(proxy: Proxy, key: str = "") -> Plane:
    """In a process of its own, as in production; records and metrics are always on."""
    port = free_port()
    child = proxy.beside(sys.executable, str(MANAGE), "rungateway", "--bind", f"127.0.0.1:{port}", port=port)
    return Plane(name=GATEWAY, port=port, pid=child.pid, key=key)


def make_key(proxy: Proxy) -> str:
    """An API key without limits. From the first one on the gateway lets nobody in without."""
    key = f"sk-{secrets.token_hex(32)}"
    fields = {"name": "benchmark", "prefix": key[:8], "digest": hashlib.sha256(key.encode()).hexdigest()}
    proxy.python("from supervisor_app.traffic.models import ApiKey", f"ApiKey.objects.create(**{fields!r})")
    return key
