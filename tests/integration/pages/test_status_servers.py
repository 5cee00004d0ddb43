"""The choice of what strangers see: by admins on a page, unless the environment says it."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.test import Client

from supervisor_app.fleet.models import AuditEntry, LlamaServer, StatusServer
from supervisor_app.fleet.status_page import chosen_of
from tests.integration.building import make_ready_server

pytestmark = pytest.mark.django_db

PATH = "/status/servers/"


@pytest.fixture(autouse=True)
def fresh():
    cache.clear()


@pytest.fixture
def admin():
    person = User.objects.create_user("ada")
    person.groups.add(Group.objects.get(name="admin"))
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def servers():
    return {name: make_ready_server(name) for name in ("gemma", "qwen", "hidden")}


def choose(admin, servers, **titles):
    said = {f"title-{server.pk}": titles.get(name, "") for name, server in servers.items()}
    said |= {f"shown-{servers[name].pk}": "on" for name in titles}
    return admin.post(f"{PATH}choose", said)


def seen(client):
    """The titles that a reader sees; none where there is no page."""
    page = client.get("/status/")
    return re.findall(r'<h2 id="status-\d+">(.*?)</h2>', page.text) if page.status_code == 200 else []


@pytest.mark.parametrize(
    ("said", "titles"),
    [([], {}), (["a", " b = B c ", "", "c="], {"a": "a", "b": "B c", "c": "c"}), (["a=b=c"], {"a": "b=c"})],
)
def test_the_environment_names_servers_and_titles(said, titles):
    assert chosen_of(said) == titles


def test_strangers_see_what_is_chosen_under_its_title_and_nothing_else(client, admin, servers):
    assert seen(client) == []
    assert choose(admin, servers, gemma="", qwen="Coding").status_code == 302
    assert seen(client) == ["Coding", "gemma"]
    assert [client.get(f"/status/{name}.svg").status_code for name in ("Coding", "qwen", "hidden")] == [
        200,
        404,
        404,
    ]
    page = client.get("/status/").text
    assert 'hidden"' not in page.replace('visually-hidden"', "")
    assert ("qwen" in page, PATH in page) == (False, False)


def test_a_server_that_is_taken_away_is_seen_no_more(client, admin, servers):
    choose(admin, servers, gemma="Chat", qwen="Coding")
    choose(admin, servers, qwen="Code")
    assert seen(client) == ["Code"]
    choose(admin, servers)
    assert client.get("/status/").status_code == 404
    servers["qwen"].delete()
    assert not StatusServer.objects.exists()


def test_the_choice_is_in_the_audit_and_nothing_is_if_it_stays(admin, servers):
    choose(admin, servers, gemma="Chat")
    choose(admin, servers, gemma="Chat")
    choose(admin, servers, qwen="")
    rows = [(row.action, row.subject, row.before, row.after) for row in AuditEntry.objects.order_by("pk")]
    assert rows == [
        ("choose servers", "status page", {}, {"gemma": "Chat"}),
        ("choose servers", "status page", {"gemma": "Chat"}, {"qwen": ""}),
    ]


def test_two_servers_cannot_have_one_title(client, admin, servers):
    answer = choose(admin, servers, gemma="qwen", qwen="")
    assert answer.status_code == 400
    assert "gemma goes by this title" in answer.text
    assert seen(client) == []


def test_a_title_that_is_too_long_is_refused(admin, servers):
    assert choose(admin, servers, gemma="x" * 61).status_code == 400
    assert not StatusServer.objects.exists()


def test_the_choice_of_the_environment_wins_and_is_read_only_with_its_origin(
    client, admin, servers, settings
):
    choose(admin, servers, gemma="Chat")
    settings.LLAMAPROXY_STATUS_SERVERS = ["qwen=Coding"]
    cache.clear()
    page = admin.get(PATH).text
    assert ("LLAMAPROXY_STATUS_SERVERS" in page, "<b>Coding</b>" in page) == (True, True)
    assert "/status/servers/choose" not in page
    assert choose(admin, servers, hidden="").status_code == 409
    assert seen(client) == ["Coding"]
    settings.LLAMAPROXY_STATUS_SERVERS = []
    cache.clear()
    assert seen(client) == ["Chat"]


def test_an_admin_who_opens_the_page_before_anything_is_chosen_may_choose(admin, servers):
    assert admin.get("/status/")["Location"] == PATH
    assert "there is no status page" in admin.get(PATH).text


def test_a_page_where_nothing_is_public_needs_a_login_whatever_is_chosen(client, admin, servers, settings):
    choose(admin, servers, gemma="Chat")
    settings.LLAMAPROXY_PUBLIC_STATUS = False
    assert client.get("/status/").status_code == 302
    assert seen(admin) == ["Chat"]


def test_without_servers_there_is_nothing_to_choose(admin):
    assert not LlamaServer.objects.exists()
    assert "There is no server yet." in admin.get(PATH).text
