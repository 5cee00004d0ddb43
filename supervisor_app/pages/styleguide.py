"""All components in all their states, for those who write pages. There with DEBUG alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.http import Http404
from django.shortcuts import render

from supervisor_app.core.status import Status
from supervisor_app.pages.door import page
from supervisor_app.pages.presenters.standing import GLYPHS, word_of
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@page(Right.READ)
def styleguide(request: HttpRequest) -> HttpResponse:
    if not settings.DEBUG:
        raise Http404("The style guide is there with DEBUG alone.")
    states = [(status.value, word_of(status), GLYPHS[status]) for status in Status]
    context = {
        "states": states,
        "tones": ("calm", "busy", "up", "warn", "bad"),
        "columns": ("Device", "Ours", "Free"),
        "rows": (("Host", "6.0 GiB", "41.0 GiB"), ("GeForce RTX 4090", "19.0 GiB", "3.0 GiB")),
        "tabs": (("Now", True), ("Log", False), ("Requests", False), ("History", False)),
    }
    return render(request, "supervisor/styleguide.html", context)
