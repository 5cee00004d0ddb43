"""Who is let in: by key; without any key only this machine's own programs, not a page in its browser."""

from __future__ import annotations

import logging
from base64 import b64encode

import pytest

from supervisor_app.gateway.access.door import Door, NotAllowedError
from supervisor_app.gateway.access.keys import Denied, KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.access.origins import BadOriginError
from supervisor_app.gateway.http.request_heads import read_request

NOW = 1_750_000_000.0
ALLOWED = ["localhost", "127.0.0.1", "[::1]", ".Example.org"]


def request(*lines, version="1.1"):
    return read_request("\r\n".join([f"GET / HTTP/{version}", *lines, "", ""]).encode("latin-1"))[0]


def door(*, keys=(), hosts=ALLOWED, **options):
    made = Door(hosts, **options)
    made.keys = KeyRing([KeyPolicy(id=1, name=key, digest=digest_of(key)) for key in keys])
    return made


def check(found, *lines, **options):
    return found.check(request(*lines, **options), NOW)


def refusal(found, *lines, **options):
    with pytest.raises(NotAllowedError) as caught:
        check(found, *lines, **options)
    return caught.value.problem


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8001",
        "LocalHost:",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:8001",
        "example.org",
        "a.b.EXAMPLE.org:1",
        "127.0.0.2",
        "127.255.255.254:8001",
        "0.0.0.0:8001",
        "[::]",
        "app.localhost",
        "a.b.LOCALHOST:1",
        "ip6-localhost",
        "ip6-loopback:8001",
    ],
)
def test_without_keys_programs_of_this_machine_come_in(host):
    assert check(door(), f"Host: {host}") is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8001",
        "notexample.org",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.256",
        "127.1",
        "128.0.0.1",
        "0.0.0.1",
        "localhost.localdomain",
        "evil-localhost",
        ".localhost",
        "[::2]",
        "evil.example@localhost",
        "localhost/evil",
        "localhost:8001:8001",
        "localhost:evil",
        "localhost#",
        "::1",
        "[::1",
        "[",
        "[localhost]",
        "\xbd",
        "localhost\xe9",
        "",
    ],
)
def test_a_name_that_is_not_ours_is_refused_because_it_may_be_a_rebound_one(host):
    problem = refusal(door(), f"Host: {host}")
    assert (problem.status, problem.code) == (421, "host_not_allowed")
    assert "ALLOWED_HOSTS" in problem.message


def test_the_name_is_told_without_its_port():
    assert "'evil.example'" in refusal(door(), "Host: Evil.example:8001").message


def test_an_old_client_that_names_no_host_is_no_page():
    assert check(door(), version="1.0") is None


def test_an_old_client_that_names_a_host_is_asked_for_a_right_one():
    found = door()
    check(found, version="1.0")
    for host in ("evil.example", ""):
        assert refusal(found, f"Host: {host}", version="1.0").status == 421
        assert refusal(found, f"Host: {host}").status == 421


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://app.example.org", "HTTP://[::1]"])
def test_without_keys_pages_of_allowed_hosts_come_in(origin):
    found = door()
    assert check(found, "Host: localhost", f"Origin: {origin}") is None
    assert found.admits_origin(origin)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "localhost", "http://[", "http://localhost@evil.example", "http://\xbd"],
)
def test_without_keys_pages_of_others_are_refused(origin):
    found = door()
    problem = refusal(found, "Host: localhost", f"Origin: {origin}")
    assert (problem.status, problem.code) == (403, "origin_not_allowed")
    assert not found.admits_origin(origin)


APPS = ["app://obsidian.md", "chrome-extension://abcdef", "vscode-webview://0a1b", "tauri://x.y"]


@pytest.mark.parametrize("origin", APPS)
def test_an_app_comes_in_once_somebody_has_listed_it(origin):
    problem = refusal(door(), "Host: localhost", f"Origin: {origin}")
    assert (problem.status, problem.code) == (403, "origin_not_allowed")
    assert "LLAMAPROXY_ALLOWED_ORIGINS" in problem.message
    for listed in (origin, origin.upper(), f"{origin.partition('://')[0]}://*"):
        found = door(allowed_origins=[listed])
        assert check(found, "Host: localhost", f"Origin: {origin}") is None
        assert found.admits_origin(origin)


def test_a_page_of_the_web_can_be_listed_with_its_port():
    found = door(allowed_origins=["https://chat.example.com:8443"])
    assert check(found, "Host: localhost", "Origin: https://chat.example.com:8443") is None
    for other in ("https://chat.example.com", "http://chat.example.com:8443", "https://evil.example"):
        assert refusal(found, "Host: localhost", f"Origin: {other}").status == 403


def test_an_app_that_is_refused_may_read_why_and_a_page_may_not():
    found = door()
    assert [found.shows_refusals(origin) for origin in APPS] == [True] * len(APPS)
    for origin in ("https://evil.example", "http://evil.example", "null", ""):
        assert not found.shows_refusals(origin)


@pytest.mark.parametrize(
    "listed", ["*", "https://*", "http://*", "null", "obsidian.md", "app://", "app://a/b"]
)
def test_a_text_that_is_no_origin_cannot_be_listed(listed):
    with pytest.raises(BadOriginError, match=r"would be every page|is not an origin"):
        door(allowed_origins=[listed])


@pytest.mark.parametrize(
    ("lines", "is_taken"),
    [
        ([], True),
        (["Origin: http://localhost:3000"], True),
        (["Sec-Fetch-Site: same-origin"], True),
        (["Sec-Fetch-Site: none"], True),
        (["Origin: https://evil.example"], False),
        (["Sec-Fetch-Site: cross-site"], False),
        (["Sec-Fetch-Site: same-site"], False),
    ],
)
def test_a_password_that_a_browser_adds_by_itself_opens_nothing(lines, is_taken):
    found = door(keys=["lp-a"])
    password = b64encode(b"anybody:lp-a").decode()
    if is_taken:
        assert check(found, "Host: localhost", f"Authorization: Basic {password}", *lines).name == "lp-a"
    else:
        with pytest.raises(Denied):
            check(found, "Host: localhost", f"Authorization: Basic {password}", *lines)
    assert check(found, "Host: localhost", "Authorization: Bearer lp-a", *lines).name == "lp-a"


def test_a_page_that_was_let_in_opens_the_door_for_no_other():
    found = door()
    check(found, "Host: localhost")
    check(found, "Host: localhost", "Origin: http://localhost")
    assert refusal(found, "Host: localhost", "Origin: http://evil.example").status == 403
    assert refusal(found, "Host: evil.example", "Origin: http://localhost").status == 421
    assert refusal(found, "Host: evil.example").status == 421


def test_a_page_that_was_let_in_comes_in_again_after_many_others():
    found = door()
    for number in range(1100):
        assert check(found, f"Host: {number}.example.org") is None
    assert check(found, "Host: 0.example.org") is None
    assert refusal(found, "Host: evil.example").status == 421


def test_a_star_allows_every_name():
    assert check(door(hosts=["*"]), "Host: [", "Origin: null") is None


def test_with_a_key_the_key_alone_counts():
    found = door(keys=["lp-a", "lp-b"])
    policy = check(found, "Host: evil.example", "Origin: https://evil.example", "X-Api-Key: lp-b")
    assert policy.name == "lp-b"
    assert found.admits_origin("https://evil.example")


def test_once_there_is_a_key_nobody_comes_in_without():
    found = door()
    assert check(found, "Host: localhost") is None
    found.keys = door(keys=["lp-a"]).keys
    with pytest.raises(Denied) as caught:
        check(found, "Host: localhost")
    assert caught.value.status == 401


@pytest.mark.parametrize("lines", [[], ["X-Api-Key: lp-a"]])
def test_open_to_the_network_nobody_comes_in_while_there_is_no_key(lines):
    with pytest.raises(Denied) as caught:
        check(door(needs_key=True), "Host: localhost", *lines)
    assert caught.value.status == 401


def test_an_open_gateway_that_people_ask_for_is_open():
    found = door(needs_key=True, insecure_open=True)
    assert check(found, "Host: evil.example", "Origin: https://evil.example") is None
    assert found.admits_origin("https://evil.example")


@pytest.mark.parametrize(
    ("options", "level", "words"),
    [
        ({}, "INFO", "open to the programs of this machine"),
        ({"insecure_open": True}, "INFO", "open to the programs of this machine"),
        (
            {"needs_key": True, "insecure_open": True},
            "WARNING",
            "everybody who reaches it can use your models",
        ),
        ({"needs_key": True}, "WARNING", "nobody is let in until there is one"),
        (
            {"needs_key": True, "insecure_open": True, "keys": ["lp-a"]},
            "INFO",
            "nobody is let in without one",
        ),
        ({"keys": ["lp-a"]}, "INFO", "nobody is let in without one"),
    ],
)
def test_the_door_describes_who_is_let_in(options, level, words):
    said_at, said = door(**options).who_may()
    assert (logging.getLevelName(said_at), said.endswith(words)) == (level, True)


@pytest.mark.parametrize("mode", ["no-cors", "cors", "websocket"])
def test_without_keys_what_another_site_s_page_loads_in_the_background_is_refused(mode):
    problem = refusal(door(), "Host: localhost", "Sec-Fetch-Site: cross-site", f"Sec-Fetch-Mode: {mode}")
    assert (problem.status, problem.code) == (403, "origin_not_allowed")


@pytest.mark.parametrize(
    "lines",
    [
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"),
        ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors"),
        ("Sec-Fetch-Site: none", "Sec-Fetch-Mode: no-cors"),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors", "Origin: http://localhost:3000"),
    ],
)
def test_without_keys_a_link_may_be_followed_and_an_allowed_page_may_ask(lines):
    found = door()
    assert check(found, "Host: localhost", *lines) is None
    assert check(found, "Host: localhost", *lines) is None


def test_an_admitted_program_opens_the_door_to_no_page():
    found = door()
    assert check(found, "Host: localhost") is None
    refusal(found, "Host: localhost", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors")
