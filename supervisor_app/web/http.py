"""Requests as our views get them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.http import HttpRequest
from django.http.request import split_domain_port

if TYPE_CHECKING:
    from django_htmx.middleware import HtmxDetails


DEFAULT_GATEWAY_PORT = 8001
"""Port at which a gateway of another process listens unless told otherwise."""


class HtmxHttpRequest(HttpRequest):
    """A request that has passed the middleware of django-htmx."""

    htmx: HtmxDetails


def gateway_url(request: HttpRequest) -> str:
    """Return the gateway's URL as the sender of a request may reach it, without a slash at its end."""
    host, _port = split_domain_port(request.get_host())
    return (settings.LLAMAPROXY_GATEWAY_URL or f"http://{host}:{DEFAULT_GATEWAY_PORT}").rstrip("/")
