"""Servers that people add, duplicate and delete on pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.utils.translation import gettext as _

from supervisor_app.fleet.commands import NotDeletedError, delete_server, nudge
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.models import LlamaServer, this_node
from supervisor_app.fleet.versions import note_version
from supervisor_app.pages.config import fields_of, launched
from supervisor_app.pages.config_form import AddForm, initial_of
from supervisor_app.pages.door import act, page
from supervisor_app.pages.engines import known_flags
from supervisor_app.pages.pasting import typed_in
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from django.http import HttpRequest, QueryDict

    from supervisor_app.web.http import HtmxHttpRequest


@page(Right.ADMINISTER)
def add(request: HtmxHttpRequest) -> HttpResponse:
    """Show an empty form, or that of another server (`from`)."""
    name = request.GET.get("from", "")
    other = get_object_or_404(LlamaServer, name=name) if name else None
    return _page(request, AddForm(initial=initial_of(other)), {"other": other})


@act(Right.ADMINISTER)
def preview_added(request: HttpRequest) -> HttpResponse:
    """Show what the form as it is typed would launch."""
    form = _form(request.POST)
    said = launched(form.instance) if form.is_valid() else {}
    return render(request, "supervisor/_config_preview.html", {"form": form, **said})


@act(Right.ADMINISTER)
def create(request: HttpRequest) -> HttpResponse:
    """Make a server, or fill the form with a command line; a mistake loses nothing that was typed."""
    typed = typed_in(request)
    form = _form(typed.data)
    if typed.context:
        return _page(request, form, typed.context, status=400 if typed.is_mistaken else 200)
    if not form.is_valid():
        return _page(request, form, status=400)
    try:
        with transaction.atomic():
            server = form.save()
            note_version(server, None, request.user.get_username())
    except IntegrityError:  # since the form was checked
        form.add_error(None, _("Another server has just got this name or this port. Write another."))
        return _page(request, form, status=409)
    nudge(server.node)
    messages.success(request, _("%(name)s is added, and starts now.") % {"name": server.name})
    return redirect("server", name=server.name)


@act(Right.ADMINISTER)
def delete(request: HtmxHttpRequest, name: str) -> HttpResponse:
    """Delete a server, whose process its supervisor ends."""
    try:
        delete_server(get_object_or_404(LlamaServer, name=name), last_good())
    except NotDeletedError as error:
        return render(request, "supervisor/refused.html", {"message": str(error), "name": name}, status=409)
    messages.success(request, _("%(name)s is deleted.") % {"name": name})
    if request.htmx:
        return HttpResponse(status=204, headers={"HX-Redirect": resolve_url("home")})
    return redirect("home")


def _form(typed: QueryDict) -> AddForm:
    """Return the form as it is typed; flags are those of the engine of the chosen node."""
    return AddForm(typed, known=known_flags(LlamaServer(node=typed.get("node") or this_node()), typed))


def _page(
    request: HttpRequest, form: AddForm, more: dict[str, Any] | None = None, status: int = 200
) -> HttpResponse:
    context = {
        **fields_of(form),
        "who": [form[field] for field in ("name", "node") if field in form.fields],
        **(launched(form.instance) if form.is_bound and form.is_valid() else {}),
        **(more or {}),
    }
    return render(request, "supervisor/add.html", context, status=status)
