"""Alert channels: whom to tell of what. For those who administer, as their addresses hold secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.utils.translation import gettext as _

from supervisor_app.alerts.channels import delete_channel, save_channel, send_test, switch_channel
from supervisor_app.alerts.forms import AlertChannelForm
from supervisor_app.alerts.models import AlertChannel
from supervisor_app.alerts.transport import SendError
from supervisor_app.pages.door import act, page
from supervisor_app.pages.presenters.alerts import EVENTS
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from django.http import HttpRequest

    from supervisor_app.web.http import HtmxHttpRequest


@page(Right.ADMINISTER)
def channels(request: HttpRequest) -> HttpResponse:
    """List all channels."""
    found = AlertChannel.objects.prefetch_related("servers")
    rows = [(each, [words for event, words in EVENTS.items() if event in each.wants]) for each in found]
    return render(request, "supervisor/channels.html", {"rows": rows})


@page(Right.ADMINISTER)
def add_channel(request: HttpRequest) -> HttpResponse:
    """Show an empty form."""
    return _form_page(request, AlertChannelForm())


@page(Right.ADMINISTER)
def channel(request: HttpRequest, number: int) -> HttpResponse:
    """Show the form of a channel, without its address."""
    return _form_page(request, AlertChannelForm(instance=get_object_or_404(AlertChannel, pk=number)))


@act(Right.ADMINISTER)
def create_channel(request: HttpRequest) -> HttpResponse:
    """Add a channel."""
    return _save(request, AlertChannelForm(request.POST))


@act(Right.ADMINISTER)
def change_channel(request: HttpRequest, number: int) -> HttpResponse:
    """Change a channel; an address that is left empty stays."""
    return _save(request, AlertChannelForm(request.POST, instance=get_object_or_404(AlertChannel, pk=number)))


@act(Right.ADMINISTER)
def test_channel(request: HttpRequest, number: int) -> HttpResponse:
    """Send a test message now, and say what came back."""
    row = get_object_or_404(AlertChannel, pk=number)
    try:
        send_test(row)
    except SendError as error:
        said = _("The test to %(name)s was not delivered. %(why)s") % {"name": row.name, "why": error}
        messages.error(request, said)
    else:
        messages.success(request, _("The test to %(name)s was sent.") % {"name": row.name})
    return redirect("channel", number=number)


@act(Right.ADMINISTER)
def switch_alerts(request: HttpRequest, number: int) -> HttpResponse:
    """Switch a channel off, or on again (`on=1`)."""
    row, on = get_object_or_404(AlertChannel, pk=number), request.POST.get("on") == "1"
    switch_channel(row, on=on)
    said = _("%(name)s is switched on.") if on else _("%(name)s is switched off: it is told nothing.")
    messages.success(request, said % {"name": row.name})
    return redirect("channel", number=number)


@act(Right.ADMINISTER)
def remove_channel(request: HtmxHttpRequest, number: int) -> HttpResponse:
    """Delete a channel."""
    row = get_object_or_404(AlertChannel, pk=number)
    delete_channel(row)
    messages.success(request, _("%(name)s is deleted.") % {"name": row.name})
    if request.htmx:
        return HttpResponse(status=204, headers={"HX-Redirect": resolve_url("channels")})
    return redirect("channels")


def _save(request: HttpRequest, form: AlertChannelForm) -> HttpResponse:
    if not form.is_valid():
        return _form_page(request, form, status=400)
    row = save_channel(form)
    messages.success(
        request, _("%(name)s is saved. Send a test to see whether it works.") % {"name": row.name}
    )
    return redirect("channel", number=row.pk)


def _form_page(request: HttpRequest, form: AlertChannelForm, status: int = 200) -> HttpResponse:
    stored = AlertChannel.objects.filter(pk=form.instance.pk).first()
    return render(request, "supervisor/channel.html", {"form": form, "channel": stored}, status=status)
