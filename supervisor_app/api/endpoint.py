"""Let a view answer programs: the methods it takes, the rights it asks for, its refusals as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from supervisor_app.fleet.snapshots import load_views
from supervisor_app.web.errors import api_error
from supervisor_app.web.rights import READS, Right, declare, may, why_not

View = Callable[..., HttpResponseBase]


def endpoint(right: Right = Right.READ, methods: Sequence[str] = READS) -> Callable[[View], View]:
    """Let a view take these methods (else 405) from programs whose login has a right.

    A program without it gets 401, or 403 and the role that has it if the program is logged in already.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return _refusal(request, right) or view(request, *args, **kwargs)

        checked = require_http_methods(methods)(wrapper)
        return declare(right, methods)(never_cache(checked) if methods == READS else checked)

    return decorate


def no_server(name: str) -> JsonResponse:
    names = ", ".join(view.status.name for view in load_views()) or "none"
    return api_error(404, "no_such_server", f"There is no server {name!r}.", f"Servers: {names}.")


def _refusal(request: HttpRequest, right: Right) -> JsonResponse | None:
    if may(request.user, right):
        return None
    if not request.user.is_authenticated:
        hint = f"Log in at {reverse(settings.LOGIN_URL)}."
        return api_error(401, "login_required", why_not(request.user, right), hint)
    return api_error(
        403, "forbidden", why_not(request.user, right), "docs/operate.md says what each role may."
    )
