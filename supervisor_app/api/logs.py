"""Parts of a server's log: pages of lines in both directions, moments, and what a filter finds."""

from __future__ import annotations

from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from supervisor_app.api.endpoint import endpoint, no_server
from supervisor_app.fleet.commands import server_named
from supervisor_app.fleet.log_lines import lines_here, lines_there
from supervisor_app.web.rights import Right


@endpoint(Right.LOOK)
def lines(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with lines of a server's log; a search is bounded, and says how far it has looked."""
    server = server_named(name).first()
    if server is None:
        return no_server(name)
    given = request.GET.dict()
    status, body = lines_here(server, given)
    if status == 404 and server.node != settings.LLAMAPROXY_NODE:
        status, body = async_to_sync(lines_there)(server, given)
    return JsonResponse(body, status=status)
