"""Pages that nobody looks at, that cannot keep up, that are of another build, whose login has ended."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client

from supervisor_app.core.status import Status
from supervisor_app.fleet import hub as hub_module
from supervisor_app.pages.build import build
from supervisor_app.pages.consumers import LOGIN_NEEDED
from tests.deadline import DEADLINE
from tests.integration.building import (
    JSON,
    db,
    everything,
    make_ready_server,
    make_server,
    push,
    socket_to,
    until,
)

pytestmark = pytest.mark.django_db(transaction=True)

HIDDEN = {"type": "visibility", "hidden": True}
SEEN = {"type": "visibility", "hidden": False}


async def test_a_page_is_told_four_changes_a_second_of_a_server_and_a_program_all_of_them():
    await db(make_ready_server)
    async with socket_to() as page, socket_to(JSON) as program:
        await everything(page), await everything(program)
        began = asyncio.get_running_loop().time()
        for version in range(2, 102):
            await push(version=version)
            await asyncio.sleep(0.01)
        await until(page, 'data-version="101"')
        lasted = asyncio.get_running_loop().time() - began
        events = await everything(program)
    assert len(events) == 100
    assert lasted >= 1.0


async def test_the_frames_of_a_page_are_few_however_often_its_server_changes():
    await db(make_ready_server)
    async with socket_to() as page:
        await everything(page)
        loop = asyncio.get_running_loop()
        began, frames, version = loop.time(), 0, 2
        while version < 102 or not frames:
            await push(version=version)
            version += 1
            if not await page.receive_nothing(0.01):
                frames += len(re.findall("<article", await page.receive_from()))
        seconds = loop.time() - began
    # Twice as many as four a second: a comparison with the database tells all, and may come at any moment.
    assert frames <= 2 + 2 * seconds / hub_module.PAGE_SECONDS


async def test_a_page_is_told_at_once_that_a_server_went_down(monkeypatch):
    for pause in ("PAGE_SECONDS", "RESYNC_SECONDS"):
        monkeypatch.setattr(hub_module, pause, 3600.0)
    await db(make_ready_server)
    async with socket_to() as page:
        await everything(page)
        await push(version=2, status=Status.READY, started_at=1.0)
        await until(page, 'data-version="2"')
        await push(version=3, status=Status.CRASHED)
        assert 'data-status="crashed"' in await until(page, 'data-version="3"')
        await push(version=4, status=Status.CRASHED, detail="Retry 2 of 5.")
        assert await everything(page) == []


async def test_a_hidden_page_is_told_of_another_status_alone_and_of_the_rest_when_it_is_seen():
    await db(make_server)
    async with socket_to() as page:
        await everything(page)
        await page.send_json_to(HIDDEN)
        await push(version=2, status=Status.STARTING)
        said = [await until(page, 'data-version="2"')]
        await asyncio.sleep(hub_module.PAGE_SECONDS)
        await push(version=3, status=Status.STARTING, detail="41 %")
        await asyncio.sleep(hub_module.PAGE_SECONDS)
        await push(version=4, status=Status.CRASHED)
        while 'data-status="crashed"' not in said[-1]:
            said.append(await page.receive_from(timeout=DEADLINE))
        assert "41 %" not in "".join(said)
        await push(version=5, status=Status.CRASHED, detail="Retry 2 of 5.")
        assert await everything(page, quiet=0.4) == []
        await page.send_json_to(SEEN)
        assert 'id="server-default"' in await page.receive_from(timeout=DEADLINE)


async def test_a_hidden_page_that_missed_nothing_is_told_nothing_when_it_is_seen():
    await db(make_ready_server)
    async with socket_to() as page:
        await until(page, "entry-default")
        await everything(page)
        await page.send_json_to(HIDDEN)
        await page.send_json_to(SEEN)
        assert await everything(page) == []


@pytest.mark.parametrize(
    "said", ['{"type": "visibility"}', '{"type": "visibility", "hidden": "no"}', "[]", "{}"]
)
async def test_odd_words_of_a_page_harm_nobody(said):
    await db(make_ready_server)
    async with socket_to() as page:
        await everything(page)
        await page.send_to(text_data=said)
        await push(detail="Still told.")
        await until(page, "Still told.")


async def test_a_page_of_another_build_is_told_to_reload_and_one_of_this_build_is_not():
    await db(make_ready_server)
    async with (
        socket_to("/llamaproxws?build=other") as old,
        socket_to(f"/llamaproxws?build={build()}") as new,
    ):
        assert 'id="outdated"' in "".join(await everything(old))
        assert 'id="outdated"' not in "".join(await everything(new))


def test_a_process_whose_first_visitor_is_an_open_page_knows_its_view():
    look = "import supervisor_app.routing; from supervisor_app.fleet.events import LISTINGS; print(*LISTINGS)"
    setup = f"import django; django.setup(); {look}"
    done = subprocess.run([sys.executable, "-c", setup], capture_output=True, text=True, check=True)
    assert "rows" in done.stdout.split()


async def test_a_program_is_told_of_no_build():
    await db(make_ready_server)
    async with socket_to(JSON) as program:
        assert {json.loads(said)["type"] for said in await everything(program)} == {"llama_status"}


async def test_a_socket_whose_login_has_ended_is_closed_where_pages_are_private(settings, monkeypatch):
    settings.LLAMAPROXY_PUBLIC_STATUS = False
    monkeypatch.setattr(hub_module, "HEARTBEAT_SECONDS", 0.05)
    await db(make_ready_server)
    client = Client()
    await db(client.force_login, await db(User.objects.create_user, "ada", is_staff=True))
    cookie = f"sessionid={client.cookies['sessionid'].value}".encode()
    async with socket_to(headers=[(b"cookie", cookie), (b"origin", b"http://localhost")]) as page:
        await until(page, "heartbeat")
        await db(Session.objects.all().delete)
        async with asyncio.timeout(DEADLINE):
            while (said := await page.receive_output(DEADLINE))["type"] != "websocket.close":
                pass
    assert said["code"] == LOGIN_NEEDED


def test_a_page_goes_compressed_to_those_who_take_that(client):
    plain = client.get("/")
    zipped = client.get("/", headers={"Accept-Encoding": "gzip"})
    assert zipped["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain
    assert len(zipped.content) < len(plain.content) / 2


HTMX = {"HX-Request": "true", "X-CSRFToken": "that of the page"}


@pytest.mark.parametrize("path", ["/devices", "/alerts/", "/overview/figures", "/overview/bars"])
def test_a_part_of_a_page_whose_login_has_ended_is_not_replaced_by_the_login(client, settings, path):
    settings.LLAMAPROXY_PUBLIC_STATUS = False
    answer = client.get(path, headers=HTMX)
    assert (answer.status_code, answer["HX-Trigger"]) == (286, "login-ended")


def test_a_page_of_staff_hears_that_the_login_has_ended_although_all_may_look(client, staff_client):
    assert client.get("/devices", headers=HTMX)["HX-Trigger"] == "login-ended"
    assert "HX-Trigger" not in staff_client.get("/devices", headers=HTMX)
    assert "HX-Trigger" not in client.get("/devices", headers={"HX-Request": "true"})
