"""Let people in to a page, or send them to the login."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseStopPolling

from supervisor_app.web.rights import (
    ACTS,
    READS,
    Right,
    Role,
    declare,
    may,
    refuse_without,
    role_may,
    role_of,
)

View = Callable[..., HttpResponseBase]
ENDED = "login-ended"
"""Event of a page that somebody with a role has opened, and whose login has ended since."""


def page(right: Right) -> Callable[[View], View]:
    """Let a view, a page or a part of one, be for those with a right.

    A stranger is sent to the login, and a person without the right told which role has it. A part of an open
    page whose login has ended asks no more.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not may(request.user, right):
                if not request.user.is_authenticated or _asks_again(request):
                    return _to_login(request)
                refuse_without(request.user, right)
            answer = view(request, *args, **kwargs)
            if _was_logged_in(request) and not may(request.user, Right.LOOK):
                answer["HX-Trigger"] = ENDED
            return _zipped(request, answer)

        return declare(right, READS)(never_cache(require_safe(wrapper)))

    return decorate


def act(right: Right) -> Callable[[View], View]:
    """Let a view that changes something, by POST alone, be for those with a right.

    Others get 403, and why.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            refuse_without(request.user, right)
            return view(request, *args, **kwargs)

        return declare(right, ACTS)(require_POST(wrapper))

    return decorate


async def allows(user: Any, right: Right) -> bool:
    """Tell whether a user has a right: for a socket, as it may ask the database."""
    if may(AnonymousUser(), right):
        return True
    allowed: bool = await database_sync_to_async(may)(user, right)
    return allowed


async def stays_allowed(scope: Mapping[str, Any], right: Right) -> bool:
    """Tell whether a socket's user, after hours perhaps, is still logged in and has a right still."""
    stays: bool = await database_sync_to_async(_may_stay)(
        scope["user"].pk, scope["session"].session_key, right
    )
    return stays


async def role_now(scope: Mapping[str, Any]) -> Role | None:
    """Return the role of a socket's user as it is by now; None: a stranger, or the login has ended."""
    role: Role | None = await database_sync_to_async(_role_now)(
        scope["user"].pk, scope["session"].session_key
    )
    return role


def _may_stay(user: int | None, session: str | None, right: Right) -> bool:
    role = _role_now(user, session)
    return role is not None and role_may(role, right)


def _role_now(user: int | None, session: str | None) -> Role | None:
    person = None if user is None else get_user_model().objects.filter(pk=user).first()
    if person is None or not Session.objects.filter(pk=session, expire_date__gt=timezone.now()).exists():
        return None
    return role_of(person)


def _asks_again(request: HttpRequest) -> bool:
    return bool(getattr(request, "htmx", False))


def _to_login(request: HttpRequest) -> HttpResponseBase:
    """Send a browser to the login; a part of an open page asks no more, and its page says why."""
    if _asks_again(request):
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


def _was_logged_in(request: HttpRequest) -> bool:
    """Tell whether somebody with a role opened the page that asks: it sends a token with all that it asks."""
    return _asks_again(request) and "X-CSRFToken" in request.headers
