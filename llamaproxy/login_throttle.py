"""The throttle of logins: django-axes counts tries; here is whom it counts and what it answers."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.shortcuts import render

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

IPV6_SITE = 64
"""Bits: one customer has at least so many addresses, and could guess from each of them."""


def sender_address(request: HttpRequest) -> str:
    """Return the address that a request comes from, as it is written there; empty: unknown.

    Behind a TLS proxy (`LLAMAPROXY_BEHIND_TLS`) the proxy's own entry, the last of X-Forwarded-For, names the
    client; those before it are the client's word.
    """
    address = str(request.META.get("REMOTE_ADDR", ""))
    if settings.BEHIND_TLS:
        address = request.headers.get("X-Forwarded-For", address).rpartition(",")[2].strip()
    return address


def client_address(request: HttpRequest) -> str:
    """Return the address that guesses are counted for: an IPv6 one stands for its whole /64 network."""
    try:
        parsed = ipaddress.ip_address(sender_address(request))
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, IPV6_SITE), strict=False).network_address)
    return str(parsed)


def locked_out(request: HttpRequest, response: HttpResponse | None = None, **_: Any) -> HttpResponse:
    """Answer a login from an address that guessed too often."""
    seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    context = {"failures": settings.AXES_FAILURE_LIMIT, "minutes": seconds // 60}
    answer = render(request, "429.html", context, status=429)
    answer["Retry-After"] = str(seconds)
    return answer
