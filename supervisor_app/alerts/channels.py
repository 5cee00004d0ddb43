"""Alert channels that people add, change, try out and switch off; their addresses are told nowhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction

from supervisor_app.alerts.models import AlertChannel
from supervisor_app.alerts.rules import write_test
from supervisor_app.alerts.transport import SendError, send
from supervisor_app.common.redact import HIDDEN
from supervisor_app.fleet.audit import note

if TYPE_CHECKING:
    from supervisor_app.alerts.forms import AlertChannelForm


@transaction.atomic
def save_channel(form: AlertChannelForm) -> AlertChannel:
    """Save a valid form of a channel."""
    is_new = form.instance.pk is None
    before = {name: _told(name, form.initial.get(name)) for name in form.changed_data}
    channel = form.save()
    after = {name: _told(name, form.cleaned_data[name]) for name in form.changed_data}
    if is_new or after:
        act = "add" if is_new else "configure"
        note(act, f"channel {channel.name}", None if is_new else before, after)
    return channel


@transaction.atomic
def switch_channel(channel: AlertChannel, *, on: bool) -> None:
    """Switch a channel on or off."""
    AlertChannel.objects.filter(pk=channel.pk).update(enabled=on)
    act = "switch on" if on else "switch off"
    note(act, f"channel {channel.name}", {"enabled": channel.enabled}, {"enabled": on})


@transaction.atomic
def delete_channel(channel: AlertChannel) -> None:
    """Delete a channel with its deliveries."""
    note("delete", f"channel {channel.name}")
    channel.delete()


def send_test(channel: AlertChannel) -> None:
    """Send a test to a channel now. Raises SendError, which says what came back."""
    alert = write_test(channel.name, node=settings.LLAMAPROXY_NODE, now=time.time())
    came_back = ""
    try:
        send(channel.url, alert.as_json())
    except SendError as error:
        came_back = str(error)
        raise
    finally:
        note("test", f"channel {channel.name}", None, {"delivered": not came_back, "error": came_back})


def _told(name: str, value: Any) -> Any:
    if name == "url":
        return HIDDEN
    return [str(each) for each in value] if name == "servers" and value else value
