"""Parts of a server's log: pages of lines in both directions, moments, and what a filter finds."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse

from supervisor_app.api.endpoint import endpoint, no_server
from supervisor_app.fleet.commands import server_named
from supervisor_app.fleet.logfiles import find_log, reading
from supervisor_app.logs.query import BadQueryError, query_of
from supervisor_app.logs.search import BadFilterError
from supervisor_app.web.errors import api_error


@endpoint(staff=True)
def lines(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with lines of a server's log; a search is bounded, and says how far it has looked."""
    server = server_named(name).first()
    if server is None:
        return no_server(name)
    try:
        query = query_of(request.GET.dict())
        found = find_log(server)
        with reading(server, found) as reader:
            return JsonResponse({**reader.answer(query), "warning": found.note})
    except (BadFilterError, BadQueryError) as error:
        return api_error(400, "bad_query", str(error), "See docs/logs.md.")
    except FileNotFoundError:
        hint = found.note or f"It is on node {server.node}, or the server has not been started yet."
        return api_error(404, "no_log", f"There is no log of {name!r} here.", hint)
    except OSError as error:
        return api_error(503, "log_unreadable", f"The log cannot be read: {error}.", "Look at its file.")
