"""nginx in front of the pages, which are below `/llama` then."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.bench.gateway.planes import find_nginx
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.acceptance.harness import Proxy

SUB_PATH = "/llama"
CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log notice;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    server {{
        listen 127.0.0.1:{port};
        location = / {{ return 200 "another application\\n"; }}
        location {below}/ {{
            proxy_pass http://127.0.0.1:{pages}{path};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
}}
"""


def nginx_before(proxy: Proxy, *, passes_on: bool) -> str:
    """Start nginx, which passes the sub-path on or takes it away. Returns where browsers find the pages."""
    program = find_nginx()
    if program is None:
        pytest.skip("nginx is not on PATH: apt install nginx-light")
    directory, port = proxy.directory, free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # for its temporary files
    path = "" if passes_on else "/"
    config = directory / "nginx.conf"
    config.write_text(
        CONFIG.format(
            directory=directory, user=user, port=port, pages=proxy.web_port, path=path, below=SUB_PATH
        )
    )
    proxy.beside(
        program, "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(config), port=port
    )
    return f"http://127.0.0.1:{port}{SUB_PATH}"
