"""The pages below a path of a real nginx's: whatever leads from one of them to another stays below it."""

from __future__ import annotations

import re
from functools import partial
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from tests.acceptance.clients import Events
from tests.acceptance.fronted import SUB_PATH, nginx_before
from tests.deadline import DEADLINE

LEADS = ("href", "src", "action", "hx-get", "hx-post", "ws-connect")
PASSWORD = "a-fine-long-password"


def contains(text, html):
    return text in html


class Links(HTMLParser):
    """Where a page or a part of it leads."""

    def __init__(self, html):
        super().__init__()
        self.found = set()
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found |= {value for name, value in attributes if name in LEADS and not value.startswith("#")}


class Visitor(requests.Session):
    """A browser without script, at the address that nginx has."""

    def __init__(self, url):
        super().__init__()
        self.trust_env = False
        self.url = url

    def visit(self, path, **options):
        return self.get(self.url + path, timeout=DEADLINE, **options)

    def fill_in(self, path, **fields):
        return self.post(
            self.url + path, {"csrfmiddlewaretoken": self.cookies["csrftoken"], **fields}, timeout=DEADLINE
        )


@pytest.fixture(params=[True, False], ids=["passed on", "taken away"], scope="module")
def below(request, make_shared):
    """Ready, behind nginx; a person has come by the link on the console and chosen a password."""
    proxy = make_shared(retry_backoff_ms=50)
    proxy.env["FORCE_SCRIPT_NAME"] = SUB_PATH
    proxy.script()
    proxy.start().wait_for_status("ready")
    proxy.visitor = Visitor(nginx_before(proxy, passes_on=request.param))
    link = proxy.wait_for_line("First login").split()[-1]
    path = urlsplit(link).path
    assert path.startswith(f"{SUB_PATH}/login/")
    visitor, path = proxy.visitor, path.removeprefix(SUB_PATH)
    visitor.visit(path)
    assert urlsplit(visitor.fill_in(path).url).path == f"{SUB_PATH}/password/"
    arrived = visitor.fill_in("/password/", new_password1=PASSWORD, new_password2=PASSWORD)
    assert urlsplit(arrived.url).path == f"{SUB_PATH}/"
    yield proxy
    visitor.close()


def test_the_console_names_the_sub_path(below):
    assert below.said(f"{below.url}{SUB_PATH} (Ctrl+C ends it)")


def pages_of(below):
    run = below.runs()[-1]["id"]
    paths = ("/", "/servers/default/", "/servers/default/runs/", f"/servers/default/runs/{run}/", "/nothing")
    return [below.visitor.visit(path) for path in paths]


def test_every_page_leads_only_below_the_sub_path(below):
    for page in pages_of(below):
        leads = Links(page.text).found
        assert len(leads) > 3, page.url
        assert [link for link in leads if not link.startswith(f"{SUB_PATH}/")] == [], page.url


def test_every_link_and_file_of_the_pages_is_there(below):
    named = {link for page in pages_of(below) for link in re.findall(r'(?:href|src)="(/[^"]+)"', page.text)}
    found = set(map(unescape, named))
    assert any("/static/" in link for link in found)
    for link in sorted(found):
        answer = below.visitor.get(urljoin(below.visitor.url, link), timeout=DEADLINE)
        assert answer.status_code == 200, link


def test_cookies_are_for_the_sub_path_alone(below):
    assert {(cookie.name, cookie.path) for cookie in below.visitor.cookies} == {
        ("csrftoken", SUB_PATH),
        ("sessionid", SUB_PATH),
    }


def test_a_visitor_who_has_to_log_in_is_sent_there_and_back(below):
    with Visitor(below.visitor.url) as stranger:
        asked = stranger.visit("/servers/default/runs/")
        assert f"{SUB_PATH}/admin/login/?next={SUB_PATH}/servers/default/runs/" in asked.url
        path = asked.url.removeprefix(stranger.url)
        assert stranger.fill_in(path, username="admin", password=PASSWORD).url.endswith(
            f"{SUB_PATH}/servers/default/runs/"
        )


def test_probes_and_the_api_answer_below_the_sub_path_and_directly(below):
    for path in ("/livez", "/readyz", "/metrics", "/api/servers/default/"):
        assert below.visitor.visit(path).status_code == 200, path
        assert below.get(path).status_code == 200, path
    error = below.visitor.visit("/api/nothing").json()["error"]
    assert error["hint"] == f"See {SUB_PATH}/api/servers/."


def test_a_button_and_the_push_that_follows_stay_below_the_sub_path(below):
    visitor = below.visitor
    page = visitor.visit("/servers/default/")
    (socket,) = (link for link in Links(page.text).found if "llamaproxws" in link)
    with Events(urljoin(page.url, socket).replace("http:", "ws:", 1)) as events:
        for command, status in (("stop", "initial"), ("start", "ready")):
            answer = visitor.post(
                f"{visitor.url}/servers/default/{command}",
                headers={"HX-Request": "true", "X-CSRFToken": visitor.cookies["csrftoken"]},
                timeout=DEADLINE,
            )
            assert answer.status_code == 204
            pushed = events.wait_for(status, partial(contains, f'data-status="{status}"'))
            assert f"{SUB_PATH}/servers/default/" in Links(pushed).found
