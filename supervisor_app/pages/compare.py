"""Two runs of a server side by side: how each was launched, what it used and how it ended."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _

from supervisor_app.common import words
from supervisor_app.common.redact import redact_argv
from supervisor_app.core.command_line.argv import beside, flags_beside
from supervisor_app.core.command_line.named_model import named_model
from supervisor_app.fleet.models import LlamaServer, Run
from supervisor_app.pages.door import page
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.http import HttpRequest, HttpResponse

    from supervisor_app.core.command_line.argv import Beside

ELSEWHERE = frozenset({"args", "model_path"})
"""Settings that the command line tells."""


@page(Right.LOOK)
def compare(request: HttpRequest, name: str) -> HttpResponse:
    """Show what differs between the two runs that the address names; what is equal is folded."""
    server = get_object_or_404(LlamaServer, name=name)
    numbers = {int(each) for each in request.GET.getlist("run") if each.isascii() and each.isdigit()}
    runs = list(Run.objects.filter(server=server, pk__in=[n for n in numbers if n < 2**63]).order_by("pk"))
    if len(runs) != 2 or len(numbers) != 2:
        said = _("Choose two runs of %(name)s to compare them, with the boxes before them.") % {"name": name}
        return render(request, "supervisor/compare.html", {"name": name, "problem": said}, status=400)
    before, after = runs
    parts = [
        (_("How they went"), beside(_facts(before), _facts(after))),
        (_("Command line"), flags_beside(_argv(before), _argv(after))),
        (_("Environment"), beside(_told(before.environment), _told(after.environment))),
        (_("Settings"), beside(_settings(before), _settings(after))),
    ]
    context = {"name": name, "before": before, "after": after, "now": time.time(), "parts": _folded(parts)}
    return render(request, "supervisor/compare.html", context)


def _folded(parts: Sequence[tuple[str, list[Beside]]]) -> list[tuple[str, list[Beside], list[Beside]]]:
    """Split each part into rows that differ and rows that are equal; a part without rows is left out."""
    return [
        (title, [row for row in rows if row.differs], [row for row in rows if not row.differs])
        for title, rows in parts
        if rows
    ]


def _argv(run: Run) -> list[str]:
    return list(redact_argv([str(word) for word in run.argv]))


def _facts(run: Run) -> dict[str, str]:
    """Return facts of a run in words, by what they are; only those that are known."""
    is_over = run.ended_at is not None
    ready = None if run.ready_at is None else words.tenths((run.ready_at - run.started_at).total_seconds())
    peak = peak_memory(run)
    told = {
        _("Outcome"): run.failure_title or (_("stopped") if is_over else _("running")),
        _("Why"): run.failure_detail or run.note,
        _("Ended with"): words.ending(run.exit_code, run.signal) if is_over else "",
        _("Lived"): words.duration(run.uptime.total_seconds()),
        _("Ready after"): _("never") if ready is None else ready,
        _("Build"): run.build,
        _("Model"): named_model(_argv(run)),
        _("Peak memory seen"): "" if peak is None else words.size(peak),
    }
    return {name: value for name, value in told.items() if value}


def peak_memory(run: Run) -> int | None:
    """Return the most that the process was seen to use in its last looks, in bytes; None: nobody looked."""
    return max((int(used) for _before, used in run.evidence.get("history", [])), default=None)


def _settings(run: Run) -> dict[str, str]:
    return _told({name: value for name, value in run.launch.items() if name not in ELSEWHERE})


def _told(values: Mapping[str, object]) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in sorted(values.items())
    }
