"""Each address and each socket, asked by people of each role.

The table is what the views themselves declare; here it is walked. An address that declares nothing fails.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import product

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import get_resolver, resolve

from supervisor_app.pages.consumers import LOGIN_NEEDED
from supervisor_app.routing import urlpatterns as sockets
from supervisor_app.web.rights import Right, Role, declared_by
from tests.integration.building import db, make_ready_server, socket_to

pytestmark = pytest.mark.django_db

PARTS = {"name": "default", "wish": "restart", "slug": "pause", "str": "used"}
"""Values for the converters of an address; numbers are 1, and name nothing."""
IN_ADMIN = {"model": "apikey", "app_label": "traffic", "url": "nowhere", "rest": ""}
"""Values for the named groups of a pattern."""
PEOPLE = ("stranger", "nobody", *Role)
ADMINS_PAGE = "/admin/"


@cache
def addresses():
    """All addresses of the project, with what stands for a name or a number filled in, and what they declare."""
    paths = sorted({path for path in _paths(get_resolver().url_patterns, "/") if "\\" not in path})
    return [(path, declared_by(resolve(path).func)) for path in paths]


def _paths(patterns, prefix):
    for pattern in patterns:
        path = prefix + _filled(str(pattern.pattern))
        if hasattr(pattern, "url_patterns"):
            yield from _paths(pattern.url_patterns, path)
        else:
            yield path


def _filled(pattern):
    path = re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda found: IN_ADMIN[found[1]], pattern)
    path = re.sub(r"<(?:(\w+):)?\w+>", lambda found: PARTS.get(found[1], "1"), path)
    return path.lstrip("^").removesuffix("$").removesuffix("\\Z")


def client_of(who):
    client = Client()
    if who != "stranger":
        user = User.objects.create_user(f"the {who}")
        if who in list(Role):
            user.groups.add(Group.objects.get(name=who))
        client.force_login(user)
    return client


def rights_of(who):
    if who in list(Role):
        return Role(who).rights
    return {Right.ENTER, Right.READ} | ({Right.OWN} if who == "nobody" else set())


def is_sent_to_login(answer):
    return answer.status_code == 302 and answer["Location"].startswith("/admin/login/?next=")


def refusal(path, declared, who):
    """How a client without the right is refused: by status, or sent to the login."""
    if path.startswith("/api/") or path == "/metrics":
        return 401 if who == "stranger" else 403
    if path.startswith(ADMINS_PAGE) or (who == "stranger" and "GET" in declared.methods):
        return "login"
    return 403


def test_each_address_says_which_right_it_asks_for():
    silent = [path for path, declared in addresses() if declared is None]
    assert silent == []


def test_the_walk_finds_pages_acts_api_and_admin():
    found = {(declared.right, path.split("/")[1]) for path, declared in addresses()}
    assert {(Right.OPERATE, "servers"), (Right.LOOK, "api"), (Right.ADMINISTER, "admin")} <= found


@pytest.mark.parametrize("who", PEOPLE)
def test_nobody_gets_in_without_the_right_that_an_address_asks_for(who):
    make_ready_server()
    client, has, wrong = client_of(who), rights_of(who), {}
    for path, declared in addresses():
        if declared.right in has:
            continue
        answer = client.generic("POST" if "POST" in declared.methods else "GET", path)
        got = "login" if is_sent_to_login(answer) else answer.status_code
        if got != refusal(path, declared, who):
            wrong[path] = got
    assert wrong == {}


@pytest.mark.parametrize("who", PEOPLE)
def test_each_gets_in_with_the_right_that_an_address_asks_for(who):
    make_ready_server()
    has, wrong = rights_of(who), {}
    client = client_of(who)
    for path, declared in addresses():
        if declared.right not in has or declared.right is Right.ENTER or path.startswith(ADMINS_PAGE):
            continue
        answer = client.generic("GET" if "GET" in declared.methods else "POST", path)
        if answer.status_code in (401, 403, 405) or is_sent_to_login(answer):
            wrong[path] = answer.status_code
    assert wrong == {}


def test_a_method_that_an_address_does_not_take_is_refused_to_all():
    client, taken = client_of("admin"), {}
    for path, declared in addresses():
        if path.startswith(ADMINS_PAGE) or declared.right is Right.ENTER:
            continue
        for method in {"GET", "POST"} - set(declared.methods):
            if (status := client.generic(method, path).status_code) != 405:
                taken[path] = status
    assert taken == {}


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_where_the_status_is_not_public_it_is_for_those_with_a_role(who, settings):
    settings.LLAMAPROXY_PUBLIC_STATUS = False
    make_ready_server()
    client, wrong = client_of(who), {}
    for path, declared in addresses():
        if declared.right is Right.READ:
            answer = client.get(path)
            got = "login" if is_sent_to_login(answer) else answer.status_code
            if got != refusal(path, declared, who):
                wrong[path] = got
    assert wrong == {}


@pytest.mark.parametrize(
    "path", ["", "traffic/apikey/", "supervisor_app/llamaserver/add/", "alerts/alertchannel/"]
)
def test_admins_may_what_django_s_admin_has_without_being_staff(path):
    assert client_of("admin").get(ADMINS_PAGE + path).status_code == 200


@pytest.mark.parametrize("path", ["auth/user/", "auth/user/add/", "auth/group/1/change/"])
def test_no_admin_makes_a_superuser_of_himself(path):
    assert client_of("admin").get(ADMINS_PAGE + path).status_code == 403


def test_staff_that_is_a_viewer_may_look_alone():
    user = User.objects.create_user("clerk", is_staff=True)
    user.groups.add(Group.objects.get(name="viewer"))
    client = Client()
    client.force_login(user)
    assert is_sent_to_login(client.get(ADMINS_PAGE))
    assert client.post("/servers/default/stop").status_code == 403


def test_a_page_says_to_a_viewer_what_is_missing():
    make_ready_server()
    refused = client_of("viewer").post("/servers/default/stop")
    assert "Your role viewer may look, not act. Ask an admin for operator." in refused.text


@pytest.mark.parametrize(
    ("who", "shown"),
    [("stranger", set()), ("viewer", set()), ("operator", {"stop"}), ("admin", {"stop", "config"})],
)
def test_buttons_and_tabs_are_shown_to_those_who_may_press_them(who, shown):
    make_ready_server()
    page = client_of(who).get("/servers/default/").text
    links = {"stop": 'action="/servers/default/stop"', "config": 'href="/servers/default/config/"'}
    assert {name for name, link in links.items() if link in page} == shown


@pytest.mark.parametrize("who", Role)
def test_each_role_can_log_out(who):
    client = client_of(who)
    client.post("/admin/logout/")
    assert is_sent_to_login(client.get("/requests/"))


async def closed_to(socket, client):
    """Tell whether a socket closes at once to this client."""
    cookies = [(b"cookie", f"{each.key}={each.value}".encode()) for each in client.cookies.values()]
    async with socket_to(f"/{socket.pattern}?server=default", cookies) as talk:
        return (await talk.receive_output()).get("code") == LOGIN_NEEDED


@pytest.mark.django_db(transaction=True)
async def test_a_socket_is_closed_to_those_without_its_right(settings):
    clients, wrong = {who: await db(client_of, who) for who in PEOPLE}, []
    for public, socket in product((True, False), sockets):
        settings.LLAMAPROXY_PUBLIC_STATUS = public
        for who, client in clients.items():
            has = rights_of(who) - (set() if public or who in list(Role) else {Right.READ})
            is_open = socket.callback.consumer_class.right in has
            if await closed_to(socket, client) == is_open:
                wrong.append((socket.name, who, public))
    assert wrong == []
