"""What pages, apps and odd clients may try at a running gateway: names, origins, passwords, headers said twice."""

from __future__ import annotations

import socket
from base64 import b64encode

import pytest

from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.gateway.conftest import make_keys
from tests.deadline import DEADLINE

APP = "vscode-webview://0a1b"
PAGE = "https://evil.example"


def ask(proxy, first="GET /slots", *lines, host="127.0.0.1", port=None):
    """Status, fields (lower case) and content of the answer; bytes go out as they are written here."""
    raw = "\r\n".join([f"{first} HTTP/1.1", f"Host: {host}", *lines, "Connection: close", "", ""])
    with socket.create_connection(("127.0.0.1", port or proxy.gateway_port), timeout=DEADLINE) as client:
        client.sendall(raw.encode("latin-1"))
        answer = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    head, _, content = answer.partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    named = dict(field.lower().split(": ", 1) for field in fields)
    return int(status.split()[1]), named, content


@pytest.fixture(scope="module")
def proxies(make_shared, engine, model):
    """Two proxies: without keys, where an app is known, and with a key."""
    made = []
    for allowed in ("app://known,vscode-webview://known", ""):
        proxy = make_shared(llama_model_path=str(model), llama_server_args=ENGINE_ARGS)
        proxy.env["LLAMAPROXY_ALLOWED_ORIGINS"] = allowed
        proxy.start().wait_for_status("ready")
        made.append(proxy)
    make_keys(made[1], {"page": {"may_read": True}})
    made[1].wait_for("the key counts", lambda: ask(made[1])[0] == 401)
    return made


@pytest.fixture
def open_one(proxies):
    return proxies[0]


@pytest.fixture
def locked(proxies):
    return proxies[1]


@pytest.mark.parametrize(
    "host", ["localhost", "127.9.9.9:1", "0.0.0.0", "[::1]:8001", "a.localhost", "ip6-localhost"]
)
def test_a_name_that_only_this_machine_has_is_let_in(open_one, host):
    assert ask(open_one, host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "127.1"]
)
def test_a_name_that_may_be_rebound_is_not(open_one, host):
    assert ask(open_one, host=host)[0] == 421


def test_an_app_that_is_listed_is_let_in_and_another_one_reads_why_not(open_one):
    assert ask(open_one, "GET /slots", "Origin: vscode-webview://known")[0] == 200
    status, fields, content = ask(open_one, "GET /slots", f"Origin: {APP}")
    assert (status, fields["access-control-allow-origin"]) == (403, APP)
    assert "LLAMAPROXY_ALLOWED_ORIGINS" in content
    preflight = ask(open_one, "OPTIONS /slots", f"Origin: {APP}", "Access-Control-Request-Method: POST")
    assert preflight[0] == 204


def test_a_page_of_the_web_is_told_nothing(open_one):
    for first in ("GET /slots", "GET /v1/models", "GET /health", "OPTIONS /slots"):
        lines = [f"Origin: {PAGE}", "Access-Control-Request-Method: POST"]
        status, fields, _ = ask(open_one, first, *lines)
        assert (status, "access-control-allow-origin" in fields) == (403, False), first


def test_a_password_counts_for_programs_and_not_for_pages_to_which_a_browser_adds_it(locked):
    password = "Authorization: Basic " + b64encode(b"x:lp-of-page").decode()
    assert ask(locked, "GET /slots", password)[0] == 200
    for line in (f"Origin: {PAGE}", "Sec-Fetch-Site: cross-site"):
        status, fields, _ = ask(locked, "GET /slots", password, line)
        assert (status, fields["www-authenticate"]) == (401, 'bearer realm="llamaproxy"')


def test_a_header_said_twice_alike_is_let_in_and_one_that_differs_is_not(locked):
    one, other = "Authorization: Bearer lp-of-page", "Authorization: Bearer lp-of-other"
    assert ask(locked, "GET /slots", one, one)[0] == 200
    assert ask(locked, "GET /slots", one, other)[0] == 400
    assert ask(locked, "GET /slots", one, "Host: 127.0.0.1")[0] == 400
    assert ask(locked, "POST /tokenize", one, "Content-Length: 0", "Content-Length: 0")[0] == 400


@pytest.mark.parametrize("path", ["/", "/index.html", "/favicon.ico", "/_app/x.js"])
def test_a_file_of_the_web_ui_is_as_public_as_its_server_has_it(locked, path):
    through, direct = ask(locked, f"GET {path}")[0], ask(locked, f"GET {path}", port=locked.engine_port)[0]
    assert through == direct


@pytest.mark.parametrize(
    "path", ["/props", "/slots", "/v1/models", "/props?x=.js", "/slots/a.js", "/props/.js"]
)
def test_nothing_else_becomes_public_by_its_name(locked, path):
    status, _, content = ask(locked, f"GET {path}")
    assert status in (401, 404), content
    assert "n_ctx" not in content
