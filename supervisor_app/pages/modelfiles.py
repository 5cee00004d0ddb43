"""Models on the disks of all nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.contrib import messages
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from supervisor_app.modelfiles.models import ModelFile
from supervisor_app.modelfiles.removal import KeptError, wish_to_delete
from supervisor_app.pages.door import act, page
from supervisor_app.pages.downloads import downloads_panel, repository_panel
from supervisor_app.pages.parts import pushed
from supervisor_app.pages.presenters.modelfiles import nodes_of
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.http import HttpResponse, HttpResponseBase

    from supervisor_app.web.http import HtmxHttpRequest


@pushed("supervisor/_models.html", lambda _asked, _may: [models_panel()], pause=2.0)
@page(Right.LOOK)
def models(request: HtmxHttpRequest) -> HttpResponse:
    """Show the models; htmx gets the lists alone."""
    if request.htmx and not request.htmx.history_restore_request:
        return render(request, "supervisor/_models.html", models_panel())
    asked = repository_panel(request.GET.get("repository", ""), request.GET.get("node", ""))
    return render(request, "supervisor/models.html", {**models_panel(), **downloads_panel(), **asked})


@act(Right.ADMINISTER)
def delete_model(request: HtmxHttpRequest, number: int) -> HttpResponseBase:
    """Ask the node of a model to delete its files."""
    row = get_object_or_404(ModelFile, pk=number)
    said = ""
    try:
        wish_to_delete(row, cast("User", request.user))
    except KeptError as error:
        said = _("%(model)s is not deleted. %(why)s") % {"model": row.name, "why": error}
    if request.htmx:
        return render(request, "supervisor/_models.html", models_panel(said))
    if said:
        messages.warning(request, said)
    return redirect("models")


def models_panel(said: str = "") -> dict[str, Any]:
    """Return what the lists show; one query."""
    nodes = nodes_of(ModelFile.objects.all())
    return {"nodes": nodes, "said": said}
