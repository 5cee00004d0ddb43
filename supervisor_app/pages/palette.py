"""Items of the palette, asked for when somebody opens it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import JsonResponse

from supervisor_app.core.status import Status
from supervisor_app.fleet.models import LlamaServer, ServerState
from supervisor_app.pages.door import page
from supervisor_app.pages.presenters.palette import Known, items_of
from supervisor_app.pages.presenters.standing import word_of
from supervisor_app.web.rights import Right, may

if TYPE_CHECKING:
    from django.http import HttpRequest


@page(Right.READ)
def palette(request: HttpRequest) -> JsonResponse:
    servers = LlamaServer.objects.only("name", "state__status", "state__unloaded").select_related("state")
    rights = frozenset(right for right in Right if may(request.user, right))
    return JsonResponse({"items": items_of(map(_known, servers), rights)})


def _known(server: LlamaServer) -> Known:
    state: ServerState | None = getattr(server, "state", None)
    status = Status(state.status) if state else Status.INITIAL
    word = word_of(status, unloaded=state is not None and state.unloaded)
    return Known(name=server.name, status=status, word=word)
