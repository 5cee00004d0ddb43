"""Let people in to a page, or send them to the login."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.views import redirect_to_login
from django.contrib.sessions.models import Session
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseStopPolling

from supervisor_app.web.http import HtmxHttpRequest, may_control, may_read

View = Callable[..., HttpResponseBase]
ENDED = "login-ended"
"""Event of a page that its staff has opened, and whose login has ended since."""


def page(view: View) -> View:
    """Let a view be for everybody; where the installation says so, for staff alone."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_read(request):
            return _to_login(request)
        answer = view(request, *args, **kwargs)
        if _was_staff(request) and not may_control(request):
            answer["HX-Trigger"] = ENDED
        return _zipped(request, answer)

    return never_cache(require_safe(wrapper))


def staff_page(view: View) -> View:
    """Let a view be for staff alone: it shows output, which may hold prompts."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _to_login(request)
        if not may_control(request):
            raise PermissionDenied("Log in as staff to see this.")
        return _zipped(request, view(request, *args, **kwargs))

    return never_cache(require_safe(wrapper))


def staff_part(view: View) -> View:
    """Let a view be for staff alone; a part of an open page whose login has ended asks no more."""
    page = staff_page(view)

    @wraps(view)
    def wrapper(request: HtmxHttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.htmx and not may_control(request):
            return _to_login(request)
        return page(request, *args, **kwargs)

    return never_cache(wrapper)


def may_stay(user: int | None, session: str | None) -> bool:
    """Tell whether a user is still one of the staff, and logged in: a socket stays open for long."""
    if user is None:
        return False
    is_staff = get_user_model().objects.filter(pk=user, is_active=True, is_staff=True).exists()
    return is_staff and Session.objects.filter(pk=session, expire_date__gt=timezone.now()).exists()


def _to_login(request: HttpRequest) -> HttpResponseBase:
    """Send a browser to the login; a part of an open page asks no more, and its page says why."""
    if getattr(request, "htmx", False):
        return HttpResponseStopPolling(headers={"HX-Trigger": ENDED})
    return redirect_to_login(request.get_full_path(), reverse(settings.LOGIN_URL))


def _zipped(request: HttpRequest, answer: HttpResponseBase) -> HttpResponseBase:
    """Compress what is whole: the rows of an overview repeat each other, and are a tenth then.

    Streams stay as they are, since compression would hold their pieces back. Django adds random bytes, so
    that a length tells nothing (https://docs.djangoproject.com/en/5.2/ref/middleware/#gzip-middleware).
    """
    if not isinstance(answer, HttpResponse):
        return answer
    return GZipMiddleware(lambda _request: answer).process_response(request, answer)


def _was_staff(request: HttpRequest) -> bool:
    """Tell whether the page that asks was opened by staff: it sends a token with all that it asks."""
    return bool(getattr(request, "htmx", False)) and "X-CSRFToken" in request.headers
