"""Heads of requests as they come from the wire, good ones and bad ones."""

from __future__ import annotations

from hypothesis import strategies as st

from supervisor_app.gateway.http.request_heads import read_request


def raw_head(*lines, first="POST /v1/chat/completions HTTP/1.1", host="gateway"):
    """Lines are text, in latin-1; with `host` None there is none."""
    hosts = [] if host is None else [f"Host: {host}"]
    return "\r\n".join([first, *hosts, *lines, "", ""]).encode("latin-1")


def read(*lines, **parts):
    return read_request(raw_head(*lines, **parts))


NAMES = st.sampled_from(
    [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Upgrade",
        "Authorization",
        "X-Api-Key",
        "X",
        "Content-Type",
        "Expect",
        "TE",
        "Trailer",
        "Accept-Encoding",
        "HTTP2-Settings",
        "x-hop",
        "Keep-Alive",
    ]
)
VALUES = st.sampled_from(
    [
        "5",
        "0",
        "05",
        "+5",
        "chunked",
        "Chunked",
        "identity",
        "close",
        "upgrade",
        "x-hop, te",
        "h2c",
        "a",
        "",
        "keep-alive",
        "gateway",
        "a, chunked",
        "5, 5",
        "100-continue",
        "Bearer lp-x",
        "content-length",
        "é",
    ]
)
LINES = st.builds(
    lambda name, before, colon, value, after: f"{before(name)}{colon}{value}{after}",
    NAMES,
    st.sampled_from([str, str.lower, str.upper]),
    st.sampled_from([": ", ":", ":\t", " : "]),
    VALUES,
    st.sampled_from(["", "", " ", "\t", "\r", "\n", "\0", "\r\n "]),
)
