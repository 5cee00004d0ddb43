"""All servers, one of them, and the buttons."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from supervisor_app.core.server_config import Wish
from supervisor_app.fleet.availability import bars_of
from supervisor_app.fleet.commands import (
    NothingToRollBackError,
    NotSeamlessError,
    ask,
    ask_seamless,
    roll_back,
    server_named,
)
from supervisor_app.fleet.conf import apply_overlay
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.models import LlamaServer, ServerState
from supervisor_app.fleet.planned import planned_views
from supervisor_app.fleet.presets import preset_phrases
from supervisor_app.fleet.uptime import Window
from supervisor_app.pages.config import not_ready
from supervisor_app.pages.devices import devices_panel
from supervisor_app.pages.door import act, page
from supervisor_app.pages.maintenance import maintenance_panel
from supervisor_app.pages.needs import need_panel
from supervisor_app.pages.now import history_panel, now_panel
from supervisor_app.pages.overview import load_overview
from supervisor_app.web.rights import Right, may

if TYPE_CHECKING:
    from supervisor_app.fleet.snapshots import ServerView
    from supervisor_app.web.http import HtmxHttpRequest


@page(Right.READ)
def home(request: HttpRequest) -> HttpResponse:
    context = {"overview": load_overview(planned_views()), **devices_panel(), **_page_context(request)}
    return render(request, "supervisor/home.html", context)


@page(Right.READ)
def server(request: HttpRequest, name: str) -> HttpResponse:
    day = bars_of([name], Window.DAY, timezone.now()).get(name)
    view = _view(name)
    context = {"view": view, "need": need_panel(name), "day": day, **_page_context(request, name)}
    context |= now_panel(name)
    context |= history_panel(name, request.GET.get("span", ""), context["devices"])
    if may(request.user, Right.LOOK):
        row = get_object_or_404(LlamaServer.objects.select_related("state"), name=name)
        context |= {"can_seamless": row.port_is_chosen, **not_ready(row)}
        apply_overlay(row, last_good())
        presets = {preset: preset_phrases(said) for preset, said in row.presets.items()}
        is_admin = may(request.user, Right.ADMINISTER)
        context |= {"presets": presets, "direct": _direct(row) if is_admin else None}
    return render(request, "supervisor/server.html", context)


def _direct(row: LlamaServer) -> dict[str, Any]:
    """Return how admins reach llama-server itself. A key that people have set is not shown: they know it."""
    state: ServerState | None = getattr(row, "state", None)
    knows_own_key = row.api_key is None and not (state and state.adopted)
    return {"own_key": row.own_key if knows_own_key else "", "has_key": bool(row.api_key)}


@act(Right.OPERATE)
def control(request: HtmxHttpRequest, name: str, wish: Wish) -> HttpResponse:
    """Start, stop or restart a server.

    htmx gets 204, because the change itself comes as a push; a browser without script gets a redirect.
    """
    if wish is Wish.RESTART and request.GET.get("seamless") == "1":
        try:
            ask_seamless(get_object_or_404(LlamaServer, name=name))
        except NotSeamlessError as error:
            return render(
                request, "supervisor/refused.html", {"message": str(error), "name": name}, status=409
            )
    elif not ask(wish, server_named(name), at_once=request.GET.get("now") == "1"):
        raise Http404(f"There is no server {name}.")
    if request.htmx:
        return HttpResponse(status=204)
    return redirect("server", name=name)


@act(Right.OPERATE)
def rollback(request: HtmxHttpRequest, name: str) -> HttpResponse:
    """Go back to the configuration that reached ready last."""
    server = get_object_or_404(LlamaServer, name=name)
    try:
        roll_back(server, last_good(), request.user.get_username())
    except NothingToRollBackError as error:
        return render(request, "supervisor/refused.html", {"message": str(error), "name": name}, status=409)
    if request.htmx:
        return HttpResponse(status=204)
    return redirect("server", name=name)


def _page_context(request: HttpRequest, name: str = "") -> dict[str, Any]:
    return {
        "now": time.time(),
        **maintenance_panel(name, to_staff=may(request.user, Right.LOOK)),
        "has_users": get_user_model().objects.exists(),
    }


def _view(name: str) -> ServerView:
    views = planned_views(name)
    if not views:
        raise Http404(f"There is no server {name}.")
    return views[0]
