"""Every page as a browser gets it: under which name, with which policy, lent to nobody."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from supervisor_app.core.status import Status
from supervisor_app.fleet.logins import new_login_token
from supervisor_app.fleet.models import LlamaServer
from tests.integration.building import (
    MODEL,
    OUT_OF_MEMORY,
    at,
    long_ago,
    make_run,
    make_server,
    make_state,
)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["/", "/api/servers/", "/livez", "/admin/login/"])
def test_another_host_name_is_refused(path, client):
    """Otherwise a page elsewhere could make its visitors' browsers talk to us (DNS rebinding)."""
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 400


class Page(HTMLParser):
    """What a strict Content-Security-Policy would refuse."""

    def __init__(self, html):
        super().__init__()
        self.refused = []
        self._in_script = False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if "style" in given or tag == "style":
            self.refused.append((tag, given))
        if any(name.startswith(("on", "hx-on")) for name in given):
            self.refused.append((tag, given))
        if any(str(value).strip().lower().startswith("javascript:") for value in given.values()):
            self.refused.append((tag, given))
        self._in_script = tag == "script" and given.get("type", "") != "application/json"

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script and data.strip():
            self.refused.append(data)


def every_page(client):
    """Address -> HTML, of every kind of page that there is."""
    admin = "/admin/supervisor_app"
    server, run = LlamaServer.objects.first(), LlamaServer.objects.first().runs.first()
    paths = [
        "/",
        "/servers/default/",
        "/servers/default/log/",
        "/servers/default/runs/",
        f"/servers/default/runs/{LlamaServer.objects.get(name='default').runs.last().pk}/",
        "/nothing",
        "/login/spent/",
        "/admin/",
        "/admin/password_change/",
        f"{admin}/llamaserver/",
        f"{admin}/llamaserver/add/",
        f"{admin}/llamaserver/{server.pk}/change/",
        f"{admin}/llamaserver/{server.pk}/delete/",
        f"{admin}/llamaserver/{server.pk}/history/",
        f"{admin}/run/",
        f"{admin}/run/{run.pk}/change/",
        "/admin/auth/user/",
    ]
    return {path: client.get(path) for path in paths}


@pytest.fixture
def furnished():
    """A server of each status, with everything that a page can show."""
    for status in Status:
        server = make_server("default" if status is Status.READY else status.value)
        make_state(
            server,
            status,
            detail='<script>alert("x")</script>',
            url="http://localhost:8134",
            served=[MODEL.as_json()],
            failure=OUT_OF_MEMORY.as_json(),
            last_error="x",
            started_at=long_ago(),
            next_retry_at=long_ago(),
            retries=1,
            pid=1,
            progress={"loaded": 50, "total": 100, "percent": 50, "etaSeconds": 3.5},
            seen_at=long_ago() if status is Status.ERROR else at(4_000_000_000),
        )
        make_run(server, failure_kind="exited", exit_code=1, last_lines="<script>alert(1)</script>")
        make_run(server, ended_at=None)


def test_every_page_has_the_policy_and_keeps_to_it(furnished, staff_client):
    for path, answer in every_page(staff_client).items():
        assert answer["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';"), path
        assert Page(answer.content.decode()).refused == [], path


def test_a_strangers_pages_keep_to_the_policy(furnished, client):
    new_login_token()
    for path in ("/", "/servers/default/", "/admin/login/", "/nothing"):
        answer = client.get(path)
        assert "Content-Security-Policy" in answer
        assert Page(answer.content.decode()).refused == [], path


def test_the_pages_of_a_first_login_keep_to_the_policy(client):
    token = new_login_token()
    first = client.get(f"/login/{token}/")
    client.post(f"/login/{token}/")
    second = client.get("/password/")
    for answer in (first, second):
        assert (answer.status_code, Page(answer.content.decode()).refused) == (200, [])
        assert "Content-Security-Policy" in answer


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Frame-Options", "DENY"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
    ],
)
def test_pages_are_not_lent_to_others(header, value, client):
    assert client.get("/")[header] == value


def test_text_of_a_server_is_escaped(furnished, client):
    html = client.get("/").content.decode()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_errors_carry_the_policy_too(client):
    assert "Content-Security-Policy" in client.get("/nothing")
    assert "Content-Security-Policy" in client.get("/", headers={"Host": "evil.example"})
    assert "Content-Security-Policy" in client.post("/servers/default/start")


def test_static_files_are_served_by_the_process_itself(client):
    answer = client.get("/static/supervisor/css/base.css")
    assert answer.status_code == 200
    assert b"".join(answer.streaming_content)
