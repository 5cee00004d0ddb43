"""Let people in to a page, or send them to the login."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseStopPolling

from supervisor_app.web.http import HtmxHttpRequest, may_control, may_read

View = Callable[..., HttpResponseBase]


def page(view: View) -> View:
    """Let a view be for everybody; where the installation says so, for staff alone."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_read(request):
            return redirect_to_login(request.get_full_path(), reverse(settings.LOGIN_URL))
        return view(request, *args, **kwargs)

    return never_cache(require_safe(wrapper))


def staff_page(view: View) -> View:
    """Let a view be for staff alone: it shows output, which may hold prompts."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path(), reverse(settings.LOGIN_URL))
        if not may_control(request):
            raise PermissionDenied("Log in as staff to see this.")
        return view(request, *args, **kwargs)

    return never_cache(require_safe(wrapper))


def staff_part(view: View) -> View:
    """Let a view be for staff alone; a part of an open page whose login has ended asks no more."""
    page = staff_page(view)

    @wraps(view)
    def wrapper(request: HtmxHttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.htmx and not may_control(request):
            return HttpResponseStopPolling()
        return page(request, *args, **kwargs)

    return never_cache(wrapper)
