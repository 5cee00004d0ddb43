"""A real nginx in front of the gateway, as docs/operate.md has it and as it comes: streams pass as they are made."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from pathlib import Path

import pytest

from supervisor_app.core.status import Status
from tests.bench.gateway.planes import find_nginx
from tests.integration.building import eventually
from tests.integration.gateway.plane import Plane, request, streaming
from tests.integration.gateway.scripts import (
    FINISH,
    LAST_CHUNK,
    answers,
    chunked,
    dies,
    event,
    sends,
    stream_of,
    waits_for,
)
from tests.ports import free_port

OPERATE = (Path(__file__).parents[3] / "docs" / "operate.md").read_text()
LOCATION = re.compile(
    r"    location / \{\n        proxy_pass http://127\.0\.0\.1:8001;\n.*?\n    \}\n", re.DOTALL
)
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
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""


def location_of(kind):
    if kind == "as it comes":
        return "location / { proxy_pass http://127.0.0.1:8001; proxy_set_header Host localhost; }"
    found = LOCATION.search(OPERATE)
    assert found is not None, "docs/operate.md shows no nginx in front of the gateway"
    return found[0]


@pytest.fixture(params=["as documented", "as it comes"])
async def behind(request, plane, tmp_path):
    """The same plane, asked through nginx."""
    program = find_nginx()
    if program is None:
        pytest.skip("nginx is not on PATH: apt install nginx-light")
    port = free_port()
    location = location_of(request.param).replace("127.0.0.1:8001", f"127.0.0.1:{plane.port}")
    user = "user root;" if os.geteuid() == 0 else ""  # for its temporary files
    config = tmp_path / "nginx.conf"
    config.write_text(CONFIG.format(directory=tmp_path, port=port, location=location, user=user))
    command = [program, "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    front = Plane(plane.gateway, plane.outside)
    front.port = port
    try:
        await eventually((tmp_path / "nginx.pid").exists)
        yield front
    finally:
        front.leave()
        process.terminate()
        await asyncio.to_thread(process.wait, 20)


async def test_a_client_behind_nginx_sees_signs_of_life_and_each_event_as_it_is_made(plane, behind):
    plane.limit(comment_seconds=0.05)
    goes_on = asyncio.Event()
    rest = chunked(event("second")) + FINISH
    server = await plane.serve(
        waits_for(goes_on, sends(rest), before=stream_of(event("first"))), status=Status.STARTING
    )
    caller = await behind.connect()
    await caller.send(streaming())
    assert (await caller.head()).status == 200
    await caller.read_until(b": waiting for default")
    server.says(status=Status.READY)
    await caller.read_until(event("first"))
    goes_on.set()
    await caller.read_until(b"data: [DONE]")


async def test_a_stream_that_breaks_behind_nginx_tells_why(plane, behind):
    goes_on = asyncio.Event()
    await plane.serve(waits_for(goes_on, dies(), before=stream_of(event("a"))))
    caller = await behind.connect()
    await caller.send(streaming())
    assert (await caller.head()).status == 200
    await caller.read_until(event("a"))
    goes_on.set()
    assert b"upstream_crashed" in await caller.read_until(b"\n\n\r\n" + LAST_CHUNK)


async def test_a_long_question_and_a_long_answer_pass_nginx(plane, behind):
    server = await plane.serve(answers(b"y" * 3_000_000))
    answer = await behind.ask(request("/v1/embeddings", body={"input": "x" * 500_000}))
    assert (answer.status, len(answer.content)) == (200, 3_000_000)
    assert len(server.texts[0]) == 500_000
