"""Planned work, for programs: what is in force, and its begin and end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from supervisor_app.api.endpoint import endpoint, no_server
from supervisor_app.common.until import until
from supervisor_app.fleet.commands import server_named
from supervisor_app.fleet.maintenance import begin, finish, plans
from supervisor_app.web.errors import api_error
from supervisor_app.web.rights import ACTS, Right

if TYPE_CHECKING:
    from supervisor_app.fleet.models import LlamaServer


@endpoint()
def maintenance(request: HttpRequest) -> HttpResponse:
    """List what is in force."""
    found = [{"server": plan.server, **plan.as_json()} for plan in plans()]
    return JsonResponse({"maintenance": found})


@endpoint(Right.OPERATE, ACTS)
def switch_of_all(request: HttpRequest, switch: str) -> HttpResponse:
    """Begin (`on`) or end (`off`) the maintenance of all servers."""
    return _switch(request, None, switch)


@endpoint(Right.OPERATE, ACTS)
def switch_of_server(request: HttpRequest, name: str, switch: str) -> HttpResponse:
    """Begin (`on`) or end (`off`) the maintenance of a server."""
    server = server_named(name).first()
    return no_server(name) if server is None else _switch(request, server, switch)


def _switch(request: HttpRequest, server: LlamaServer | None, switch: str) -> HttpResponse:
    name = server.name if server else None
    if switch == "off":
        return JsonResponse({"server": name, "maintenance": None, "ended": finish(server)})
    if switch != "on":
        return api_error(
            404, "no_such_switch", f"Maintenance is on or off, not {switch!r}.", "Use on or off."
        )
    said = request.GET.get("until", "")
    try:
        end = until(said, timezone.now()) if said else None
    except ValueError as error:
        return api_error(400, "bad_until", str(error), "Use ?until=2h, ?until=14:00, or leave it out.")
    begin(server, until=end, words=request.GET.get("note", ""), who=request.user.get_username())
    own = next(plan for plan in plans() if plan.server == name)
    return JsonResponse({"server": name, "maintenance": own.as_json()})
