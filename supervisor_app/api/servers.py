"""The status of servers, their commands and the end of their output."""

from __future__ import annotations

import time
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from supervisor_app.api.endpoint import endpoint, no_server
from supervisor_app.core.server_config import Wish
from supervisor_app.fleet.commands import (
    NothingToRollBackError,
    NotSeamlessError,
    ask,
    ask_seamless,
    roll_back,
    server_named,
)
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.footprint_rows import known_needs
from supervisor_app.fleet.logfiles import MAX_LINES, find_log
from supervisor_app.fleet.planned import planned_views
from supervisor_app.web.errors import api_error
from supervisor_app.web.rights import ACTS, Right


@endpoint()
def servers(request: HttpRequest) -> HttpResponse:
    now = time.time()
    return JsonResponse({"servers": [view.as_json(now) for view in planned_views()]})


@endpoint()
def server(request: HttpRequest, name: str) -> HttpResponse:
    views = planned_views(name)
    if not views:
        return no_server(name)
    return JsonResponse(views[0].as_json(time.time()))


@endpoint()
def footprint(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with the memory that a server needs, and where that is known from."""
    if not server_named(name).exists():
        return no_server(name)
    need = known_needs(name).get(name)
    if need is None:
        hint = "Its supervisor finds out before a start, unless the server fetches its model itself."
        return api_error(404, "no_footprint", f"What {name} needs is not known yet.", hint)
    return JsonResponse(need.as_json())


@endpoint(Right.OPERATE, ACTS)
def control(request: HttpRequest, name: str, wish: Wish) -> HttpResponse:
    """Answer 202 once the wish is on disk; the supervisor acts on it."""
    if wish is Wish.RESTART and request.GET.get("seamless") == "1":
        return _restart_seamlessly(name)
    if not ask(wish, server_named(name), at_once=request.GET.get("now") == "1"):
        return no_server(name)
    return JsonResponse({"server": name, "asked": wish}, status=202)


def _restart_seamlessly(name: str) -> HttpResponse:
    server = server_named(name).first()
    if server is None:
        return no_server(name)
    try:
        ask_seamless(server)
    except NotSeamlessError as error:
        return api_error(409, "not_seamless", str(error), "Restart it without ?seamless=1.")
    return JsonResponse({"server": name, "asked": "restart", "seamless": True}, status=202)


@endpoint(Right.OPERATE, ACTS)
def rollback(request: HttpRequest, name: str) -> HttpResponse:
    server = server_named(name).first()
    if server is None:
        return no_server(name)
    try:
        changed = roll_back(server, last_good(), request.user.get_username())
    except NothingToRollBackError as error:
        return api_error(409, "nothing_to_roll_back", str(error), "See its history in the admin.")
    return JsonResponse({"server": name, "asked": "rollback", "changed": changed}, status=202)


@endpoint(Right.LOOK)
def log(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with the end of a server's output: it may hold prompts, so it is not for strangers."""
    asked = request.GET.get("lines", "100")
    if not asked.isascii() or not asked.isdigit() or not 1 <= int(asked) <= MAX_LINES:
        hint = f"Use ?lines=1 to ?lines={MAX_LINES}."
        return api_error(400, "bad_lines", f"lines={asked!r} is not a number of lines.", hint)
    server = server_named(name).first()
    if server is None:
        return no_server(name)
    found = find_log(server)
    if not found.exists:
        hint = found.note or f"It is on node {server.node}, or the server has not been started yet."
        return api_error(404, "no_log", f"There is no log of {name!r} here.", hint)
    told: dict[str, Any] = {"server": name, "lines": found.log.tail(int(asked))}
    return JsonResponse({**told, "warning": found.note} if found.note else told)
