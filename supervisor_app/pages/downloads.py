"""Downloads of models to the nodes, and looks at the hub before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.http import Http404, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render

from supervisor_app.core.memory_rules import MemoryRules
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.devices import known_devices
from supervisor_app.fleet.lease import live_leases
from supervisor_app.fleet.models import this_node
from supervisor_app.library.hub.repository import WrongNameError
from supervisor_app.modelfiles.asking import NoAnswerError, ask_download, look_up, wish_of
from supervisor_app.modelfiles.models import Download
from supervisor_app.modelfiles.steps import WISHES
from supervisor_app.pages.door import act, page
from supervisor_app.pages.parts import pushed
from supervisor_app.pages.presenters.downloads import choices_of, rows_of
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from django.http import HttpResponseBase

    from supervisor_app.web.http import HtmxHttpRequest


@pushed("supervisor/_downloads.html", lambda _asked, _may: [downloads_panel()])
@page(Right.LOOK)
def downloads(request: HtmxHttpRequest) -> HttpResponseBase:
    """Answer with the part that is pushed to open pages."""
    if not request.htmx:
        return redirect("models")
    return render(request, "supervisor/_downloads.html", downloads_panel())


@page(Right.OPERATE)
def repository(request: HtmxHttpRequest) -> HttpResponseBase:
    """Answer with what the hub has under a name."""
    if not request.htmx:
        return redirect("models")
    context = repository_panel(request.GET.get("repository", ""), request.GET.get("node", ""))
    return render(request, "supervisor/_repository.html", context)


@act(Right.OPERATE)
def download(request: HtmxHttpRequest) -> HttpResponseBase:
    """Ask a node for a model."""
    node = request.POST.get("node", "")
    if node not in nodes():
        return HttpResponseBadRequest("There is no such node.\n", content_type="text/plain")
    try:
        row = ask_download(
            node,
            request.POST.get("repository", ""),
            request.POST.get("label", ""),
            projector=bool(request.POST.get("projector")),
            who=request.user.get_username(),
        )
    except WrongNameError as error:
        return HttpResponseBadRequest(f"{error}\n", content_type="text/plain")
    return _done(request, row, ADDITION, "Asked its node to download it.")


@act(Right.OPERATE)
def change(request: HtmxHttpRequest, number: int, wish: str) -> HttpResponseBase:
    """Pause, resume, cancel or retry a download."""
    if wish not in WISHES:
        raise Http404(f"Nobody can wish {wish} of a download.")
    row = get_object_or_404(Download, pk=number)
    wish_of(row, wish)
    return _done(request, row, CHANGE, f"Asked its node: {wish}.")


def downloads_panel() -> dict[str, Any]:
    """Return what the list shows; one query."""
    found = list(Download.objects.all())
    rows = rows_of(found)
    several = len({row.row.node for row in rows} | set(nodes())) > 1
    return {"downloads": rows, "several": several}


def repository_panel(said: str, node: str) -> dict[str, Any]:
    """Return what the hub has, or why that is not known; nothing when nobody asks."""
    known = nodes()
    node = node if node in known else known[0]
    context: dict[str, Any] = {"wanted": said, "node": node, "nodes_known": known}
    if not said.strip():
        return context
    try:
        listing = look_up(said)
    except (NoAnswerError, WrongNameError) as error:
        return {**context, "problem": str(error)}
    devices = next((each.devices for each in known_devices() if each.node == node), ())
    rules = (last_good().memory if node == this_node() else None) or MemoryRules()
    return {**context, "listing": listing, "choices": choices_of(listing, devices, rules)}


def nodes() -> list[str]:
    """List the nodes that can download: those that a supervisor holds, else this one."""
    return list(live_leases().order_by("node").values_list("node", flat=True)) or [this_node()]


def _done(request: HtmxHttpRequest, row: Download, flag: int, what: str) -> HttpResponse:
    LogEntry.objects.create(
        user_id=cast("int", request.user.pk),
        content_type=ContentType.objects.get_for_model(Download),
        object_id=str(row.pk),
        object_repr=str(row)[:200],
        action_flag=flag,
        change_message=what,
    )
    if request.htmx:
        return render(request, "supervisor/_downloads.html", downloads_panel())
    return redirect("models")
