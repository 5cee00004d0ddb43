"""Addresses as people type and read them."""

from __future__ import annotations

import argparse

import psutil

WILDCARDS = {"0.0.0.0", "::"}  # noqa: S104
"""Hosts that stand for every address of this machine."""


def address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[IPv6]:PORT` or `PORT`: a type for argparse."""
    host, _, port = text.rpartition(":")
    bare_ipv6 = ":" in host and not host.startswith("[")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if bare_ipv6 or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address. Use HOST:PORT, such as 127.0.0.1:8000."
        )
    return host, int(port)


def url_of(host: str, port: int) -> str:
    """The URL to type into a browser on this machine."""
    name = "localhost" if host in WILDCARDS else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"


def who_listens(port: int) -> str:
    """Name a process that listens on this port, for a message: ` (pid 7, nginx)`; empty when none is seen."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == port:
                return f" (pid {connection.pid}, {psutil.Process(connection.pid).name()})"
    except (psutil.Error, OSError):
        pass  # the process may be hidden; that the address is taken is certain
    return ""
