"""Let a view answer programs: the methods it takes, the rights it asks for, its refusals as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from supervisor_app.fleet.snapshots import load_views
from supervisor_app.web.errors import api_error
from supervisor_app.web.http import may_control, may_read

View = Callable[..., HttpResponseBase]
Refuse = Callable[[HttpRequest], JsonResponse | None]

READS = ("GET", "HEAD")
ACTS = ("POST",)


def endpoint(methods: Sequence[str] = READS, *, staff: bool = False) -> Callable[[View], View]:
    """Let a view take these methods (else 405) from programs with the rights: those of staff, or to read.

    A program without them gets 401, or 403 if it is logged in already.
    """
    refuse: Refuse = _refuse_all_but_staff if staff else _refuse_strangers

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return refuse(request) or view(request, *args, **kwargs)

        checked = require_http_methods(methods)(wrapper)
        return never_cache(checked) if methods == READS else checked

    return decorate


def no_server(name: str) -> JsonResponse:
    names = ", ".join(view.status.name for view in load_views()) or "none"
    return api_error(404, "no_such_server", f"There is no server {name!r}.", f"Servers: {names}.")


def _refuse_strangers(request: HttpRequest) -> JsonResponse | None:
    return None if may_read(request) else _login_required("The status needs a login.")


def _refuse_all_but_staff(request: HttpRequest) -> JsonResponse | None:
    if not request.user.is_authenticated:
        return _login_required("This needs a staff login.")
    if not may_control(request):
        return api_error(403, "not_staff", "This needs a staff login.", "Ask an administrator.")
    return None


def _login_required(message: str) -> JsonResponse:
    return api_error(401, "login_required", message, f"Log in at {reverse('admin:index')}.")
