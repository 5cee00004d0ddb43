"""Parts of pages, pushed to those who look at them."""

from __future__ import annotations

import asyncio
import json
import math
import re
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import resolve
from django.utils import timezone

from supervisor_app.fleet import hub as hub_module
from supervisor_app.gateway.edge import sights
from supervisor_app.gateway.records.in_flight import InFlight, Phase, ServerCounts
from supervisor_app.pages import part_pushes
from supervisor_app.pages.parts import address_of, pushed
from supervisor_app.web.rights import Role, RoleRights
from tests.deadline import DEADLINE
from tests.integration.building import (
    db,
    eventually,
    everything,
    make_ready_server,
    make_server,
    socket_to,
    until,
)
from tests.scenes import draw

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/llamaproxws?view=pills"
FLIGHT, NOW, FIGURES = "/requests/in-flight", "/servers/default/now", "/overview/figures"
HIDDEN, SEEN = ({"type": "visibility", "hidden": hidden} for hidden in (True, False))


def pause_of_parts(monkeypatch, seconds):
    monkeypatch.setattr(part_pushes, "TICK_SECONDS", 0.01)
    for path in (FLIGHT, NOW, FIGURES):
        view = resolve(path).func
        monkeypatch.setitem(vars(view), "part", replace(vars(view)["part"], pause=seconds))


@pytest.fixture(autouse=True)
def often(monkeypatch):
    pause_of_parts(monkeypatch, 0.0)


@pytest.fixture
def read(monkeypatch):
    """Addresses and roles for which the database was asked, in order."""
    asked, really = [], part_pushes.fragments_of

    def noted(address, role):
        asked.append((address.path, role))
        return really(address, role)

    monkeypatch.setattr(part_pushes, "fragments_of", noted)
    return asked


def fly(tokens=40):
    """A request of the key `chat` is in flight for the server `default`."""
    at = timezone.now().timestamp() - 83
    request = InFlight(
        id="req_a_1",
        at=at,
        phase=Phase.GENERATING,
        server="default",
        model="qwen3",
        key="chat",
        tokens=tokens,
    )
    counts = {"default": ServerCounts(1, 0, 41.3)}
    sights.write("one", sights.encoded(counts), sights.encoded([request]), 1)


@asynccontextmanager
async def page_of(role=None, path=PAGE):
    """The socket of a page that somebody of a role has open."""
    headers = []
    if role is not None:
        client = Client()
        user = await db(User.objects.create_user, f"{role}-{await db(User.objects.count)}")
        await db(user.groups.add, (await db(Group.objects.get_or_create, name=role))[0])
        await db(client.force_login, user)
        cookie = f"sessionid={client.cookies['sessionid'].value}".encode()
        headers = [(b"cookie", cookie), (b"origin", b"http://localhost")]
    async with socket_to(path, headers) as page:
        await everything(page)
        yield page


async def parts_in(page, quiet=0.1):
    """Parts that a page is pushed until it is quiet."""
    return [said for said in await everything(page, quiet) if 'id="pills"' not in said]


async def shows(page, *paths):
    await page.send_json_to({"type": "parts", "shown": list(paths)})


async def test_a_part_comes_at_once_and_then_each_time_that_it_has_changed():
    await db(make_ready_server)
    async with page_of(Role.VIEWER) as page:
        await shows(page, FLIGHT)
        assert "Nothing is in flight." in await until(page, 'id="in-flight"')
        await db(fly)
        assert "40 tokens" in await until(page, 'id="in-flight"')
        await db(fly, 41)
        assert 'hx-swap-oob="morph"' in await until(page, "41 tokens")


async def test_a_part_that_stays_the_same_is_read_again_and_not_sent(read):
    await db(make_ready_server)
    async with page_of(Role.VIEWER) as page:
        await shows(page, FLIGHT)
        await until(page, 'id="in-flight"')
        async with asyncio.timeout(DEADLINE):
            while len(read) < 3:
                assert await parts_in(page) == []


async def test_a_part_is_read_once_for_all_pages_of_a_role(read, monkeypatch):
    pause_of_parts(monkeypatch, math.inf)
    await db(make_ready_server)
    async with page_of(Role.VIEWER) as one, page_of(Role.VIEWER) as two:
        for page in (one, two):
            await shows(page, FLIGHT)
        for page in (one, two):
            await until(page, 'id="in-flight"')
        assert read == [(FLIGHT, Role.VIEWER)]


async def test_nothing_is_read_for_a_hidden_page_which_is_told_what_it_missed(read):
    await db(make_ready_server)
    async with page_of(Role.VIEWER) as page:
        await shows(page, FLIGHT)
        await until(page, 'id="in-flight"')
        await page.send_json_to(HIDDEN)
        await everything(page)
        before = len(read)
        await db(fly)
        assert await parts_in(page, quiet=0.3) == []
        assert len(read) == before
        await page.send_json_to(SEEN)
        await until(page, "40 tokens")


async def test_nothing_is_read_any_more_once_no_page_is_open():
    def works():
        return any(task.get_name() == "parts of pages" for task in asyncio.all_tasks())

    await db(make_ready_server)
    async with page_of(Role.VIEWER) as page:
        assert not works()
        await shows(page, FLIGHT)
        await until(page, 'id="in-flight"')
        assert works()
    async with asyncio.timeout(DEADLINE):
        while works():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("role", "names"), [(None, False), (Role.VIEWER, True)])
async def test_a_part_is_pushed_as_its_reader_may_see_it(role, names):
    await db(make_ready_server)
    await db(fly)
    async with page_of(role) as page:
        await shows(page, NOW)
        said = await until(page, 'id="now"')
        assert ("chat" in said) == names


@pytest.mark.parametrize(("role", "cancels"), [(Role.VIEWER, False), (Role.OPERATOR, True)])
async def test_buttons_are_pushed_to_those_who_may_press_them(role, cancels):
    await db(make_ready_server)
    await db(fly)
    async with page_of(role) as page:
        await shows(page, FLIGHT)
        said = await until(page, 'id="in-flight"')
        assert ("Cancel this request?" in said) == cancels
        assert "csrfmiddlewaretoken" not in said


async def test_a_stranger_is_pushed_nothing_that_needs_a_login(read):
    await db(make_ready_server)
    async with page_of() as page:
        await shows(page, FLIGHT, "/models/", "/servers/default/requests/")
        assert await parts_in(page, quiet=0.3) == []
    assert read == []


@pytest.mark.parametrize("shown", [["/nowhere", "/", "/api/servers/", 7], "/requests/in-flight", None, [""]])
async def test_addresses_of_no_part_are_not_pushed(shown):
    await db(make_ready_server)
    async with page_of(Role.VIEWER) as page:
        await page.send_json_to({"type": "parts", "shown": shown})
        assert await parts_in(page) == []


async def test_a_part_of_a_server_that_there_is_not_is_not_pushed():
    await db(make_ready_server)
    async with page_of() as page:
        await shows(page, "/servers/nobody/now", NOW)
        assert 'id="now"' in await until(page, "<section")


async def test_a_page_whose_login_has_ended_is_told_and_goes_on_as_a_strangers(monkeypatch):
    monkeypatch.setattr(hub_module, "HEARTBEAT_SECONDS", 1.0)  # more than what counts as quiet
    await db(make_ready_server)
    await db(fly)
    async with page_of(Role.VIEWER) as page:
        await shows(page, NOW)
        assert "chat" in await until(page, 'id="now"')
        await db(Session.objects.all().delete)
        assert json.loads(await until(page, "login-ended")) == {"type": "login-ended"}
        assert "chat" not in await until(page, 'id="now"')


async def test_a_part_that_fails_keeps_no_other_waiting(monkeypatch, caplog):
    caplog.set_level("INFO", part_pushes.__name__)
    really = part_pushes.fragments_of

    def failing(address, role):
        if address.path == NOW:
            raise OSError("the disk is away")
        return really(address, role)

    monkeypatch.setattr(part_pushes, "fragments_of", failing)
    await db(make_ready_server)
    async with page_of(Role.VIEWER) as page:
        await shows(page, NOW, FLIGHT)
        await until(page, 'id="in-flight"')
        await eventually(lambda: "Parts of pages are not live" in caplog.text)  # it may be the second one
        monkeypatch.setattr(part_pushes, "fragments_of", really)
        await until(page, 'id="now"')
        await eventually(lambda: "Parts of pages are live again" in caplog.text)
    assert caplog.text.count("Parts of pages are not live: the disk is away") == 1


async def test_a_row_of_the_overview_is_pushed_alone_when_its_figures_change():
    for name in ("default", "other"):
        await db(make_ready_server, name)
    async with page_of(path="/llamaproxws?view=rows") as page:
        await shows(page, FIGURES)
        assert "flight-other" in await until(page, 'id="flight-default" hx-swap-oob')
        await db(fly)
        said = await until(page, "1 in flight · 41 tokens/s")
        assert "flight-default" in said
        assert "flight-other" not in said


PAGES = ["/", "/alerts/", "/models/", "/requests/", "/servers/gemma-3-12b/", "/servers/gemma-3-12b/requests/"]


@pytest.mark.parametrize("path", PAGES)
def test_every_part_of_a_page_that_is_to_be_pushed_can_be(path, staff_client):
    draw("three")
    shown = staff_client.get(path).content.decode()
    named = re.findall(r'data-pushed hx-get="([^"]+)"', shown)
    assert named
    for part in named:
        assert address_of(part) is not None, part
        assert staff_client.get(part, headers={"HX-Request": "true"}).status_code == 200


def test_a_page_asks_for_nothing_by_itself_where_it_is_pushed(staff_client):
    draw("three")
    for path in PAGES:
        assert "every" not in re.findall(r'hx-trigger="([^"]+)"', staff_client.get(path).content.decode())


def test_a_view_without_a_right_cannot_be_pushed():
    with pytest.raises(TypeError, match="has to declare a right first"):
        pushed("x.html", lambda asked, may: [])(make_server)


def test_rights_of_a_role_are_asked_for_by_their_names():
    assert RoleRights(Role.OPERATOR).operate
    assert not RoleRights(Role.VIEWER).operate
    assert RoleRights(None).read
    assert not hasattr(RoleRights(Role.ADMIN), "fly")
