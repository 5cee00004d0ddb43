"""The configuration of a server: edit, look at what would change, apply; versions and the way back."""

from __future__ import annotations

import os
import shlex
import time
from copy import copy
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from django.contrib import messages
from django.db import IntegrityError, transaction
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from supervisor_app.common.redact import redact_argv
from supervisor_app.core.settings import BY_FIELD
from supervisor_app.core.status import DOWN
from supervisor_app.engine.resolve import BINARY
from supervisor_app.fleet.commands import tell_configured, why_kept
from supervisor_app.fleet.conf import fixed_fields, is_here, overlaid, resolve
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.engines import engine_problem
from supervisor_app.fleet.file_servers import shown_value
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.snapshots import view_of
from supervisor_app.fleet.version_tables import ConfigVersion
from supervisor_app.fleet.versions import (
    RestoreError,
    configured,
    newest_number,
    note_version,
    restore,
    way_back,
)
from supervisor_app.modelfiles.models import ModelFile
from supervisor_app.pages.config_course import course
from supervisor_app.pages.config_form import ConfigForm
from supervisor_app.pages.config_merge import merged
from supervisor_app.pages.door import act, page
from supervisor_app.pages.engines import command_of, known_flags
from supervisor_app.pages.fits import fit_of_server
from supervisor_app.pages.pasting import typed_in
from supervisor_app.pages.presenters.config import MATTER, changes_between, sections
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import User
    from django.http import HttpRequest, HttpResponse

    from supervisor_app.engine.known_flags import KnownFlags
    from supervisor_app.web.http import HtmxHttpRequest

MOST_MODELS = 500
"""Models that a field offers."""


@page(Right.ADMINISTER)
def config(request: HtmxHttpRequest, name: str) -> HttpResponse:
    server = get_object_or_404(LlamaServer, name=name)
    return _page(request, server, _form(server))


@act(Right.ADMINISTER)
def preview_config(request: HttpRequest, name: str) -> HttpResponse:
    """Show what the form as it is typed would do."""
    server = get_object_or_404(LlamaServer, name=name)
    before, form = configured(server), _form(server, request.POST, known_flags(server, request.POST))
    is_valid = form.is_valid()
    context = {"form": form, **(launched(server) if is_valid else {})}
    context |= _changes(server, (before, configured(server)) if is_valid else None)
    return render(request, "supervisor/_config_preview.html", context)


@act(Right.ADMINISTER)
def change_config(request: HttpRequest, name: str) -> HttpResponse:
    """Show what a change would do, or apply it; a mistake loses nothing that was typed."""
    known = known_flags(get_object_or_404(LlamaServer, name=name), request.POST)
    if refused := _change(request, name, known):
        return refused()  # looks at files, which may take seconds: not within the transaction
    messages.success(request, _("Applied. If what to launch has changed, the server restarts now, once."))
    return redirect("config", name=name)


@transaction.atomic
def _change(request: HttpRequest, name: str, known: KnownFlags) -> Callable[[], HttpResponse] | None:
    """Apply what was typed; else return the page that shows it."""
    based_on, is_to_apply = request.POST.get("version", ""), request.POST.get("act") == "apply"
    server = get_object_or_404(LlamaServer.objects.select_for_update(), name=name)
    before, newest = configured(server), newest_number(server)
    fixed = fixed_fields(server, last_good())
    typed = typed_in(request, fixed)
    form = _form(server, typed.data, known)
    page = partial(_page, request, server, form, version=based_on, more=typed.context)
    if not form.is_valid() or typed.is_mistaken:
        return partial(page, status=200 if typed.context and not typed.is_mistaken else 400)
    change = before, configured(server)
    if typed.context:
        return partial(page, change)
    if based_on != str(newest):
        problem = _(
            "Somebody has changed %(name)s since you opened this page (version %(newest)s). What you typed "
            "is still here, all else is as it is now: look at the changes, then apply."
        ) % {"name": name, "newest": newest}
        server.refresh_from_db()
        form = _form(server, merged(typed.data, server, based_on, fixed), known)
        after = (before, configured(server)) if form.is_valid() else None
        return partial(_page, request, server, form, after, problem, status=409)
    if not is_to_apply or change[0] == change[1]:
        return partial(page, change)
    try:
        with transaction.atomic():
            server.save(update_fields=[*(BY_FIELD.keys() & form.fields.keys()), "own_key"])
    except IntegrityError:  # another has saved a server with this port since the form was checked
        problem = _("%(port)s is another server's port since a moment ago. Write another.")
        form.add_error("port" if "port" in form.fields else None, problem % {"port": server.port})
        return partial(page, status=409)
    note_version(server, before, request.user.get_username(), request.POST.get("note", "")[:200].strip())
    tell_configured(server)
    return None


@act(Right.ADMINISTER)
def restore_config(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Bring a version back, as a new one."""
    server = get_object_or_404(LlamaServer, name=name)
    try:
        fixed = fixed_fields(server, last_good())
        restore(server, number, cast("User", request.user).get_username(), fixed)
    except RestoreError as error:
        return render(request, "supervisor/refused.html", {"message": str(error), "name": name}, status=409)
    tell_configured(server)
    messages.success(request, _("Version %(number)s is in force again.") % {"number": number})
    return redirect("config", name=name)


def not_ready(server: LlamaServer) -> dict[str, Any]:
    """Return what `supervisor/_way_back.html` says of a change after which a server did not get ready."""
    status = view_of(server).status
    if status.status not in DOWN or not status.can_roll_back:
        return {}
    if (back := way_back(server, fixed_fields(server, last_good()))) is None:
        return {}
    why = status.failure.title if status.failure else status.detail
    return {"failed_version": newest_number(server), "why": why, "back": back}


def _form(server: LlamaServer, typed: Any = None, known: KnownFlags | None = None) -> ConfigForm:
    return ConfigForm(typed, instance=server, fixed=fixed_fields(server, last_good()), known=known)


def launched(server: LlamaServer) -> dict[str, Any]:
    """Return the command line, without secrets, and whether it fits. Blocking."""
    return {"command": _command_line(server), "memory": fit_of_server(server)}


def _command_line(server: LlamaServer) -> str:
    """Return what would be launched, without secrets: the key is handed over in the environment."""
    spec = resolve(copy(server), last_good(), command=command_of(server) or (BINARY,), cwd=os.getcwd()).spec
    return shlex.join(redact_argv([*spec.command, *spec.args]))


def _changes(server: LlamaServer, change: tuple[dict[str, Any], dict[str, Any]] | None) -> dict[str, Any]:
    changes = changes_between(*change) if change else []
    restarts = server.desired_running and any(each.restarts for each in changes)
    return {"changes": changes, "is_reviewed": change is not None, "restarts": restarts}


def _page(
    request: HttpRequest,
    server: LlamaServer,
    form: ConfigForm,
    change: tuple[dict[str, Any], dict[str, Any]] | None = None,
    problem: str = "",
    status: int = 200,
    version: str = "",
    more: dict[str, Any] | None = None,
) -> HttpResponse:
    """`version`: the one on which the form is based, if not the newest."""
    context = {
        **fields_of(form),
        "now": time.time(),
        "name": server.name,
        "why_kept": why_kept(server, last_good()),
        "of_file": _of_file(server),
        "engine_problem": engine_problem(server, last_good()) if is_here(server.node) else "",
        "source": server.file or last_good().source,
        **({} if form.errors else launched(server)),
        "problem": problem,
        "versions": _versions(server),
        **_changes(server, change),
        **course(server, version or str(newest_number(server))),
        **(more or {}),
    }
    return render(request, "supervisor/config.html", context, status=status)


def fields_of(form: ConfigForm) -> dict[str, Any]:
    """Return a form with its fields in order, and the models that it offers."""
    front = [field for field in MATTER if field in form.fields and (field != "engine" or form.has_engines)]
    more = [
        (title, [form[field] for field in fields if field in form.fields])
        for title, fields in sections(front)
    ]
    return {
        "form": form,
        "front": [form[field] for field in front],
        "more": more,
        "has_mistake_inside": any(field.errors for _title, fields in more for field in fields),
        "models": ModelFile.objects.values_list("path", flat=True).order_by("path")[:MOST_MODELS],
    }


def _of_file(server: LlamaServer) -> list[tuple[str, str]]:
    """Return what a file sets, in words without secrets."""
    overlay = last_good()
    values = {**configured(server), **overlaid(server, overlay)}
    fixed = fixed_fields(server, overlay)
    return [(field, shown_value(field, values[field]) or "none") for field in BY_FIELD if field in fixed]


def _versions(server: LlamaServer) -> list[dict[str, Any]]:
    """Return versions, the newest first, each with what it changed."""
    rows = list(ConfigVersion.objects.filter(server=server))
    changes = [changes_between(older.values, newer.values) for newer, older in pairwise(rows)]
    return [{"row": row, "changes": changed} for row, changed in zip(rows, [*changes, []], strict=False)]
