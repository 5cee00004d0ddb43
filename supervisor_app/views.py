"""Pages for people, JSON for programs. Each view does one thing; wishes go through `commands`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import get_user_model, login, update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from supervisor_app.commands import Command, NothingToRollBackError, ask, roll_back, server_named
from supervisor_app.conf import apply_overlay
from supervisor_app.config_source import last_good
from supervisor_app.errors import api_error
from supervisor_app.gateway.panel import requests_panel
from supervisor_app.history import LISTED, RunCard, card_of, newest_runs, summary_json
from supervisor_app.logfiles import MAX_LINES, find_log
from supervisor_app.logins import redeem, say_another_link, token_works
from supervisor_app.metrics import render_metrics
from supervisor_app.models import LlamaServer, ServerState
from supervisor_app.snapshots import ServerView, load_views

View = Callable[..., HttpResponseBase]

log = logging.getLogger(__name__)


def may_read(request: HttpRequest) -> bool:
    return settings.LLAMAPROXY_PUBLIC_STATUS or may_control(request)


def may_control(request: HttpRequest) -> bool:
    return request.user.is_active and request.user.is_staff


def page(view: View) -> View:
    """Status for people: needs a login only where the installation says so."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_read(request):
            return redirect_to_login(request.get_full_path(), reverse(settings.LOGIN_URL))
        return view(request, *args, **kwargs)

    return never_cache(require_safe(wrapper))


def api(view: View) -> View:
    """Status for programs: errors are JSON."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_read(request):
            return _login_required("The status needs a login.")
        return view(request, *args, **kwargs)

    return never_cache(require_safe(wrapper))


def staff_page(view: View) -> View:
    """For people who may see output, which may hold prompts."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path(), reverse(settings.LOGIN_URL))
        if not may_control(request):
            raise PermissionDenied("Log in as staff to see this.")
        return view(request, *args, **kwargs)

    return never_cache(require_safe(wrapper))


# --- Pages ---------------------------------------------------------------------------------------------


@page
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "supervisor/home.html", {"views": load_views(), **_page_context(request)})


@page
def server(request: HttpRequest, name: str) -> HttpResponse:
    context = {"view": _view(name), **_page_context(request)}
    if may_control(request):
        context |= {**requests_panel(request, name), "direct": _direct(name)}
    return render(request, "supervisor/server.html", context)


def _direct(name: str) -> dict[str, Any]:
    """How staff reach llama-server itself. A key that people have set is not shown: they know it."""
    row = get_object_or_404(LlamaServer.objects.select_related("state"), name=name)
    apply_overlay(row, last_good())
    state: ServerState | None = getattr(row, "state", None)
    knows_own_key = row.api_key is None and not (state and state.adopted)
    return {"own_key": row.own_key if knows_own_key else "", "has_key": bool(row.api_key)}


@staff_page
def runs(request: HttpRequest, name: str) -> HttpResponse:
    """The restart history: each life leads to its card."""
    server = get_object_or_404(LlamaServer, name=name)
    cards = [RunCard(run) for run in newest_runs(server.name)]
    context = {"name": server.name, "cards": cards, "listed": LISTED, "now": time.time()}
    return render(request, "supervisor/runs.html", context)


@staff_page
def run(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Why did it die? All that is known of one life."""
    card = card_of(name, number)
    if card is None:
        raise Http404(f"There is no run {number} of {name}.")
    return render(request, "supervisor/run.html", {"name": name, "card": card, "now": time.time()})


@require_POST
def control(request: HttpRequest, name: str, command: str) -> HttpResponse:
    """The buttons. htmx gets 204, the change itself comes as a push; a browser without script a redirect."""
    if not may_control(request):
        raise PermissionDenied("Log in as staff to start, stop or restart a server.")
    if not ask(Command(command), server_named(name)):
        raise Http404(f"There is no server {name}.")
    if request.htmx:  # type: ignore[attr-defined]
        return HttpResponse(status=204)
    return redirect("server", name=name)


@require_POST
def rollback(request: HttpRequest, name: str) -> HttpResponse:
    """The button: back to the configuration that reached ready last."""
    if not may_control(request):
        raise PermissionDenied("Log in as staff to roll a server back.")
    server = get_object_or_404(LlamaServer, name=name)
    try:
        roll_back(server, last_good())
    except NothingToRollBackError as error:
        return render(request, "supervisor/refused.html", {"message": str(error), "name": name}, status=409)
    if request.htmx:  # type: ignore[attr-defined]
        return HttpResponse(status=204)
    return redirect("server", name=name)


@never_cache
def staff_login(request: HttpRequest) -> HttpResponse:
    """The admin's login page."""
    if request.method == "GET":
        say_another_link(request)
    return admin.site.login(request)


@never_cache
def login_link(request: HttpRequest, token: str) -> HttpResponse:
    """Only the POST logs in: a link that some program fetches in advance must not be spent by that."""
    if request.method == "POST":
        user = redeem(token)
        if user is not None:
            login(request, user, backend="django.contrib.auth.backends.ModelBackend")
            return redirect("set-password")
    works = token_works(token)
    return render(request, "supervisor/login_link.html", {"works": works}, status=200 if works else 410)


@never_cache
@login_required
def set_password(request: HttpRequest) -> HttpResponse:
    """For the first user, who came by a link and has no password yet."""
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (login_required)
    if user.has_usable_password():
        return redirect("admin:password_change")
    form: SetPasswordForm[User] = SetPasswordForm(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        update_session_auth_hash(request, user)
        messages.success(request, "The password is set.")
        return redirect("home")
    return render(request, "supervisor/set_password.html", {"form": form})


def _page_context(request: HttpRequest) -> dict[str, Any]:
    return {
        "now": time.time(),
        "can_control": may_control(request),
        "has_users": get_user_model().objects.exists(),
    }


def _view(name: str) -> ServerView:
    views = load_views(name)
    if not views:
        raise Http404(f"There is no server {name}.")
    return views[0]


# --- JSON ----------------------------------------------------------------------------------------------


@api
def api_servers(request: HttpRequest) -> HttpResponse:
    now = time.time()
    return JsonResponse({"servers": [view.as_json(now) for view in load_views()]})


@api
def api_server(request: HttpRequest, name: str) -> HttpResponse:
    views = load_views(name)
    if not views:
        return _no_server(name)
    return JsonResponse(views[0].as_json(time.time()))


@require_POST
def api_control(request: HttpRequest, name: str, command: str) -> HttpResponse:
    """202: the wish is on disk, the supervisor acts on it."""
    refusal = _refuse_control(request)
    if refusal is not None:
        return refusal
    if not ask(Command(command), server_named(name)):
        return _no_server(name)
    return JsonResponse({"server": name, "asked": command}, status=202)


@require_POST
def api_rollback(request: HttpRequest, name: str) -> HttpResponse:
    refusal = _refuse_control(request)
    if refusal is not None:
        return refusal
    server = server_named(name).first()
    if server is None:
        return _no_server(name)
    try:
        changed = roll_back(server, last_good())
    except NothingToRollBackError as error:
        return api_error(409, "nothing_to_roll_back", str(error), "See its history in the admin.")
    return JsonResponse({"server": name, "asked": "rollback", "changed": changed}, status=202)


@never_cache
@require_safe
def api_log(request: HttpRequest, name: str) -> HttpResponse:
    """The end of a server's output: it may hold prompts, so it is for staff."""
    refusal = _refuse_control(request)
    if refusal is not None:
        return refusal
    asked = request.GET.get("lines", "100")
    if not asked.isascii() or not asked.isdigit() or not 1 <= int(asked) <= MAX_LINES:
        hint = f"Use ?lines=1 to ?lines={MAX_LINES}."
        return api_error(400, "bad_lines", f"lines={asked!r} is not a number of lines.", hint)
    server = server_named(name).first()
    if server is None:
        return _no_server(name)
    found = find_log(server)
    if not found.exists:
        hint = found.note or f"It is on node {server.node}, or the server has not been started yet."
        return api_error(404, "no_log", f"There is no log of {name!r} here.", hint)
    told: dict[str, Any] = {"server": name, "lines": found.log.tail(int(asked))}
    return JsonResponse({**told, "warning": found.note} if found.note else told)


@api
def api_runs(request: HttpRequest, name: str) -> HttpResponse:
    """How its lives ended, without what they wrote."""
    if not server_named(name).exists():
        return _no_server(name)
    return JsonResponse({"server": name, "runs": [summary_json(run) for run in newest_runs(name)]})


@never_cache
@require_safe
def api_run(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """All that is known of one life: for staff, because its output may hold prompts."""
    refusal = _refuse_control(request)
    if refusal is not None:
        return refusal
    card = card_of(name, number)
    if card is None:
        hint = f"See {reverse('api-runs', args=[name])}."
        return api_error(404, "no_such_run", f"There is no run {number} of {name!r}.", hint)
    return JsonResponse(card.as_json())


def _refuse_control(request: HttpRequest) -> JsonResponse | None:
    if not request.user.is_authenticated:
        return _login_required("This needs a staff login.")
    if not may_control(request):
        return api_error(403, "not_staff", "This needs a staff login.", "Ask an administrator.")
    return None


def _login_required(message: str) -> JsonResponse:
    return api_error(401, "login_required", message, f"Log in at {reverse('admin:index')}.")


def _no_server(name: str) -> JsonResponse:
    names = ", ".join(view.status.name for view in load_views()) or "none"
    return api_error(404, "no_such_server", f"There is no server {name!r}.", f"Servers: {names}.")


# --- For other programs --------------------------------------------------------------------------------


@never_cache
@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


_logged: set[str] = set()
"""Why the database cannot be used: each reason is logged once until it can."""


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Read a table of ours: a database that is there but not migrated is not ready either.

    The driver's words name the database's host and user, so they go to the console and not to the asker.
    """
    try:
        LlamaServer.objects.exists()
    except (DatabaseError, InterfaceError) as error:
        reason = str(error)
        if reason not in _logged:
            _logged.add(reason)
            log.warning("⚠️ [WEB] Not ready, the database cannot be used: %s", reason)
        said = f"database: {type(error).__name__}; the console of llamaproxy says more\n"
        return HttpResponse(said, status=503, content_type="text/plain")
    _logged.clear()
    return HttpResponse("ok\n", content_type="text/plain")


@api
def metrics(request: HttpRequest) -> HttpResponse:
    return HttpResponse(render_metrics(), content_type=CONTENT_TYPE_LATEST)
