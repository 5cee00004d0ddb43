"""Heads that are kept of a request: readable, and without what would let somebody in."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.edge.heads import without_secrets

HEAD = "POST /v1/chat/completions HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("Authorization: Bearer lp-0123456789", "Authorization: [redacted]"),
        ("X-Api-Key: 5", "X-Api-Key: [redacted]"),
        ("cookie: sessionid=abc; theme=dark", "cookie: [redacted]"),
        ("Set-Cookie: a=b", "Set-Cookie: [redacted]"),
        ("X-Auth-Token: abc", "X-Auth-Token: [redacted]"),
        ("Content-Type: application/json", "Content-Type: application/json"),
        ("User-Agent: curl/8", "User-Agent: curl/8"),
        ("X-Note: Bearer hf_0123456789", "X-Note: Bearer [redacted]"),
        ("Referer: http://ada:pass@host/", "Referer: http://[redacted]@host/"),
        ("Authorization:", "Authorization:"),
    ],
)
def test_a_field_is_kept_without_its_secret(line, kept):
    assert without_secrets(f"{HEAD}{line}\r\n\r\n").splitlines()[1:] == [kept]


def test_a_secret_in_the_address_is_hidden():
    first = "GET /slots?api_key=swordfish HTTP/1.1\r\n"
    assert without_secrets(first) == "GET /slots?api_key=[redacted] HTTP/1.1"
