"""The part of a server's page that is about requests, for staff."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseStopPolling

from supervisor_app.fleet.commands import server_named
from supervisor_app.pages.panel import requests_panel
from supervisor_app.traffic.models import QuarantinedRequest
from supervisor_app.web.http import HtmxHttpRequest, may_control


@never_cache
@require_safe
def requests(request: HtmxHttpRequest, name: str) -> HttpResponseBase:
    """Answer with a fragment, which an open page asks for again and again."""
    if not request.htmx:
        return redirect("server", name=name)
    if not may_control(request):
        return HttpResponseStopPolling()
    if not server_named(name).exists():
        raise Http404(f"There is no server {name}.")
    return render(request, "supervisor/_requests.html", requests_panel(request, name))


@require_POST
def release(request: HtmxHttpRequest, name: str, number: int) -> HttpResponse:
    """Release a request from quarantine: what was taken for the killer of its server may be tried again."""
    if not may_control(request):
        raise PermissionDenied("Log in as staff to release a request.")
    QuarantinedRequest.objects.filter(server=name, pk=number).delete()
    if request.htmx:
        return render(request, "supervisor/_requests.html", requests_panel(request, name))
    return redirect("server", name=name)
