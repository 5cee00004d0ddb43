"""Pages for people. Commands to servers go through `commands`."""

from __future__ import annotations

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
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from supervisor_app.commands import Command, NothingToRollBackError, ask, roll_back, server_named
from supervisor_app.conf import apply_overlay
from supervisor_app.config_source import last_good
from supervisor_app.gateway.panel import requests_panel
from supervisor_app.history import LISTED, RunCard, card_of, newest_runs
from supervisor_app.http import HtmxHttpRequest, may_control, may_read
from supervisor_app.logins import redeem, say_another_link, token_works
from supervisor_app.models import LlamaServer, ServerState
from supervisor_app.snapshots import ServerView, load_views

View = Callable[..., HttpResponseBase]


def page(view: View) -> View:
    """Status for people: needs a login only where the installation says so."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_read(request):
            return redirect_to_login(request.get_full_path(), reverse(settings.LOGIN_URL))
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
def control(request: HtmxHttpRequest, name: str, command: str) -> HttpResponse:
    """The buttons. htmx gets 204, the change itself comes as a push; a browser without script a redirect."""
    if not may_control(request):
        raise PermissionDenied("Log in as staff to start, stop or restart a server.")
    if not ask(Command(command), server_named(name)):
        raise Http404(f"There is no server {name}.")
    if request.htmx:
        return HttpResponse(status=204)
    return redirect("server", name=name)


@require_POST
def rollback(request: HtmxHttpRequest, name: str) -> HttpResponse:
    """The button: back to the configuration that reached ready last."""
    if not may_control(request):
        raise PermissionDenied("Log in as staff to roll a server back.")
    server = get_object_or_404(LlamaServer, name=name)
    try:
        roll_back(server, last_good())
    except NothingToRollBackError as error:
        return render(request, "supervisor/refused.html", {"message": str(error), "name": name}, status=409)
    if request.htmx:
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
