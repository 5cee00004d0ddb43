"""Addresses as people type and read them."""

from __future__ import annotations

import argparse

import pytest

from supervisor_app.common.addresses import address, url_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:8000", ("::1", 8000)),
        ("[::]:8000", ("::", 8000)),
        ("gpu-1.lan:65535", ("gpu-1.lan", 65535)),
        (":8000", ("127.0.0.1", 8000)),
        ("8000", ("127.0.0.1", 8000)),
    ],
)
def test_an_address_is_taken(text, expected):
    assert address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:0",
        "localhost:65536",
        "localhost:-1",
        "a:٣",
        "8000:",
        "::1:8000",  # could be an address without a port
        "[::1]",
    ],
)
def test_an_address_is_refused_by_name(text):
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        address(text)
    assert str(raised.value) == f"{text!r} is not an address. Use HOST:PORT, such as 127.0.0.1:8000."


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8001"),
        ("gpu-1.lan", "http://gpu-1.lan:8001"),
        ("::1", "http://[::1]:8001"),
        # Of all addresses this is the one that works on this machine.
        ("0.0.0.0", "http://localhost:8001"),
        ("::", "http://localhost:8001"),
    ],
)
def test_an_address_is_told_as_a_browser_takes_it(host, url):
    assert url_of(host, 8001) == url
