"""Requests through the gateways, of one server or of all: in flight, past, and one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django_htmx.http import HttpResponseClientRefresh, push_url

from supervisor_app.fleet.commands import server_named
from supervisor_app.pages.door import act, page
from supervisor_app.pages.panel import filters_panel, flight_panel, page_url, past_panel, quarantine_panel
from supervisor_app.pages.parts import pushed
from supervisor_app.pages.presenters.said import Message, Said, said_of
from supervisor_app.traffic.live import cancel as cancel_request
from supervisor_app.traffic.live import flight
from supervisor_app.traffic.models import QuarantinedRequest, RequestRecord
from supervisor_app.traffic.quarantine import release as let_go
from supervisor_app.traffic.search import Search
from supervisor_app.web.http import gateway_url
from supervisor_app.web.rights import Right, declare, may

if TYPE_CHECKING:
    from supervisor_app.web.http import HtmxHttpRequest


@pushed(
    "supervisor/_past.html",
    lambda asked, _may: [past_panel(asked.get("name", ""), Search.read(asked))],
    pause=2.0,
)
@page(Right.LOOK)
def requests(request: HtmxHttpRequest, name: str = "") -> HttpResponseBase:
    """Show the page of requests; htmx gets the table of past ones alone, and the address that asks for it."""
    _check(name)
    search = Search.read(request.GET.dict())
    past = {**past_panel(name, search), "client_url": f"{gateway_url(request)}/v1"}
    if request.htmx and not request.htmx.history_restore_request:
        part = render(request, "supervisor/_past.html", past)
        asks_again = request.htmx.trigger == "past"
        return part if asks_again else push_url(part, _address(name, search))
    context = {**flight_panel(name), **quarantine_panel(name), **filters_panel(), **past}
    return render(request, "supervisor/requests.html", context)


@pushed("supervisor/_in_flight.html", lambda asked, _may: [flight_panel(asked.get("name", ""))])
@page(Right.LOOK)
def in_flight(request: HtmxHttpRequest, name: str = "") -> HttpResponseBase:
    """Answer with the part that is pushed to open pages."""
    _check(name)
    if not request.htmx:
        return redirect(page_url(name))
    return render(request, "supervisor/_in_flight.html", flight_panel(name))


@act(Right.OPERATE)
def cancel(request: HtmxHttpRequest) -> HttpResponseBase:
    """Cancel a request in flight. Its gateway hears of that within a second."""
    name, wanted = request.POST.get("server", ""), request.POST.get("request", "")
    _check(name)
    found = next((each for each in flight().requests if each.id == wanted), None)
    if found is not None:
        cancel_request(found, cast("int", request.user.pk))
    if request.htmx:
        said = "" if found is not None else "That request has ended already."
        return render(request, "supervisor/_in_flight.html", flight_panel(name, said))
    return redirect(page_url(name))


@page(Right.LOOK)
def record(request: HtmxHttpRequest, number: int) -> HttpResponse:
    """Show one past request, with what was said where its key keeps that."""
    asked = get_object_or_404(RequestRecord, pk=number)
    said = _said(asked) if may(request.user, Right.ADMINISTER) else None
    return render(request, "supervisor/request.html", {"asked": asked, "said": said})


@act(Right.OPERATE)
def release(request: HtmxHttpRequest, name: str, number: int) -> HttpResponse:
    """Release a request from quarantine: what was taken for the killer of its server may be tried again."""
    let_go(QuarantinedRequest.objects.filter(server=name, pk=number))
    shown = "" if request.POST.get("all") else name
    if request.htmx:
        return render(request, "supervisor/_quarantine.html", quarantine_panel(shown))
    return redirect(page_url(shown))


@declare(Right.ENTER)
def moved(request: HtmxHttpRequest, name: str) -> HttpResponseBase:
    """Lead from where the requests of a server were a part of its page. Pages of that version load anew."""
    return HttpResponseClientRefresh() if request.htmx else redirect(page_url(name))


def _said(asked: RequestRecord) -> Said | None:
    if asked.captured_request is None:
        return None
    return said_of(
        Message(asked.captured_request_head or "", asked.captured_request),
        Message(asked.captured_answer_head or "", asked.captured_answer or ""),
    )


def _check(name: str) -> None:
    """Raises Http404: there is no server of this name."""
    if name and not server_named(name).exists():
        raise Http404(f"There is no server {name}.")


def _address(name: str, search: Search) -> str:
    return f"{page_url(name)}?{search.query}" if search.query else page_url(name)
