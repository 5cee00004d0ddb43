"""Crashes of one cause as one, and what people say of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from supervisor_app.alerts.rules import is_muted
from supervisor_app.fleet.crash_groups import DAYS, Group, crashes_of, grouped
from supervisor_app.fleet.crash_marks import BadMarkError, marks_of, mute, reopen, resolve, unmute
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.pages.door import act
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from supervisor_app.fleet.crash_groups import Crash
    from supervisor_app.web.http import HtmxHttpRequest

SHOWN = 30
"""Groups on the page, the newest: more are those of somebody who tries flags."""
HEIGHT = 24
"""Height of the bars by day, in units of their SVG."""


@act(Right.OPERATE)
def mark(request: HtmxHttpRequest, name: str, number: int) -> HttpResponse:
    """Say of crashes like that of a run that they are resolved or muted, or take it back."""
    server = get_object_or_404(LlamaServer, name=name)
    crash = next((each for each in crashes_of(server) if each.number == number), None)
    if crash is None:
        raise Http404(f"There is no run {number} of {name} that died.")
    problem = ""
    try:
        _act(request, crash, server)
    except BadMarkError as error:
        problem = str(error)
    if request.htmx:
        panel = groups_panel(server, problem, acted=crash)
        return render(request, "supervisor/_crash_groups.html", panel)
    if problem:
        context = {"message": problem, "name": name}
        return render(request, "supervisor/refused.html", context, status=400)
    return redirect("runs", name=name)


def _act(request: HttpRequest, crash: Crash, server: LlamaServer) -> None:
    """Raises BadMarkError."""
    user = cast("User", request.user)
    match request.POST.get("do", ""):
        case "resolve":
            resolve(crash, server, request.POST.get("build", ""), user)
        case "reopen":
            reopen(crash, server, user)
        case "mute":
            mute(crash, server, request.POST.get("above", ""), user)
        case "unmute":
            unmute(crash, server, user)
        case other:
            raise BadMarkError(f"{other!r} is nothing to do: it is one of resolve, reopen, mute, unmute.")


def groups_panel(server: LlamaServer, problem: str = "", acted: Crash | None = None) -> dict[str, Any]:
    """Return the context of `supervisor/_crash_groups.html`. Two queries.

    `acted`: a crash of the group that has just been changed, so it stays open.
    """
    now = time.time()
    groups = grouped(crashes_of(server), marks_of(server), now)
    rows = [_row(group) for group in groups[:SHOWN]]
    return {
        "name": server.name,
        "now": now,
        "open_groups": [row for row in rows if not row["group"].is_resolved],
        "resolved_groups": [row for row in rows if row["group"].is_resolved],
        "more_groups": max(0, len(groups) - SHOWN),
        "crash_kinds": sorted({(crash.kind, crash.title) for group in groups for crash in group.crashes[:1]}),
        "groups_problem": problem,
        "acted": (acted.key, acted.build) if acted else None,
    }


def _row(group: Group) -> dict[str, Any]:
    mark = group.mark
    is_silent = mark is not None and mark.mute_above is not None and is_muted(group.today, mark.mute_above)
    return {
        "group": group,
        "id": (group.key, group.newest.build),
        "is_silent": is_silent,
        "bars": _bars(group),
        "says": _says(group),
    }


def _bars(group: Group) -> list[dict[str, float]]:
    most = max(group.days)
    heights = [round(HEIGHT * count / most, 1) if most else 0.0 for count in group.days]
    return [
        {"x": 4 * day, "y": round(HEIGHT - max(2.0, height), 1), "height": max(2.0, height)}
        for day, height in enumerate(heights)
        if height
    ]


def _says(group: Group) -> str:
    """Say in words what the bars show."""
    count = sum(group.days)
    if not count:
        return _("None in the last %(days)s days.") % {"days": DAYS}
    said = ngettext("%(count)s in the last %(days)s days", "%(count)s in the last %(days)s days", count)
    most = _("at most %(most)s a day") % {"most": max(group.days)}
    return f"{said % {'count': count, 'days': DAYS}}, {most}."
