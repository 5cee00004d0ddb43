"""Requests as our views get them, and what their senders may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.http import HttpRequest

if TYPE_CHECKING:
    from django_htmx.middleware import HtmxDetails


class HtmxHttpRequest(HttpRequest):
    """A request that has passed the middleware of django-htmx."""

    htmx: HtmxDetails


def may_read(request: HttpRequest) -> bool:
    return settings.LLAMAPROXY_PUBLIC_STATUS or may_control(request)


def may_control(request: HttpRequest) -> bool:
    return request.user.is_active and request.user.is_staff
