"""Channels to edit and to try out; incidents and deliveries to read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse

from supervisor_app.alerts.channels import send_test
from supervisor_app.alerts.forms import AlertChannelForm
from supervisor_app.alerts.models import AlertChannel, Delivery, Incident, LineWatch
from supervisor_app.alerts.transport import SendError
from supervisor_app.common.admin import ReadOnly
from supervisor_app.common.words import duration
from supervisor_app.fleet.audited_admin import Audited

if TYPE_CHECKING:
    from django.db.models import QuerySet

    ChannelModelAdmin = admin.ModelAdmin[AlertChannel]
    IncidentModelAdmin = admin.ModelAdmin[Incident]
    WatchModelAdmin = admin.ModelAdmin[LineWatch]
    DeliveryModelAdmin = admin.ModelAdmin[Delivery]
    DeliveryTabularInline = admin.TabularInline[Delivery, Incident]
else:  # Django's own classes cannot be subscripted
    ChannelModelAdmin = IncidentModelAdmin = WatchModelAdmin = DeliveryModelAdmin = admin.ModelAdmin
    DeliveryTabularInline = admin.TabularInline


@admin.register(AlertChannel)
class AlertChannelAdmin(Audited, ChannelModelAdmin):
    audited, secret = "channel", frozenset({"url"})
    form = AlertChannelForm
    list_display = ["name", "masked", "enabled", "events", "which_servers", "resend_hours"]
    list_filter = ["enabled"]
    search_fields = ["name"]
    filter_horizontal = ["servers"]
    readonly_fields = ["masked"]
    actions = ["send_a_test"]
    fieldsets = [
        (None, {"fields": ["name", "enabled", "masked", "url"]}),
        (
            "When",
            {"fields": ["on_crashed", "on_hung", "on_given_up", "on_recovered", "on_line", "resend_hours"]},
        ),
        ("Of which servers", {"fields": ["servers"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AlertChannel]:
        return super().get_queryset(request).prefetch_related("servers")

    def get_fieldsets(self, request: HttpRequest, obj: AlertChannel | None = None) -> Any:
        """The address is not even sent to those who may only look."""
        if self.has_change_permission(request, obj) or obj is None:
            return super().get_fieldsets(request, obj)
        return [
            (title, {"fields": [name for name in options["fields"] if name != "url"]})
            for title, options in self.fieldsets
        ]

    def get_urls(self) -> list[URLPattern]:
        test = path("<int:pk>/test/", self.admin_site.admin_view(self.test), name="alerts_alertchannel_test")
        return [test, *super().get_urls()]

    def test(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The button: to this channel as it is saved, now, and say what came of it."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        channel = get_object_or_404(AlertChannel, pk=pk)
        if not self.has_change_permission(request, channel):
            raise PermissionDenied
        self._test(request, channel)
        return redirect(reverse("admin:alerts_alertchannel_change", args=[pk]))

    @admin.action(description="Send a test message", permissions=["change"])
    def send_a_test(self, request: HttpRequest, queryset: QuerySet[AlertChannel]) -> None:
        for channel in queryset:
            self._test(request, channel)

    def _test(self, request: HttpRequest, channel: AlertChannel) -> None:
        try:
            send_test(channel)
        except SendError as error:
            self.message_user(request, f"The test to {channel} was not delivered. {error}", messages.ERROR)
        else:
            self.message_user(request, f"The test to {channel} was sent.", messages.SUCCESS)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """Let a channel be deleted with its deliveries, although nobody may delete deliveries themselves."""
        deleted, counts, forbidden, protected = super().get_deleted_objects(objs, request)
        return deleted, counts, forbidden - {str(Delivery._meta.verbose_name)}, protected

    @admin.display(description="stored address")
    def masked(self, channel: AlertChannel) -> str:
        return channel.masked if channel.url else "none yet"

    @admin.display(description="on")
    def events(self, channel: AlertChannel) -> str:
        return ", ".join(sorted(event.value.replace("_", " ") for event in channel.wants)) or "nothing"

    @admin.display(description="servers")
    def which_servers(self, channel: AlertChannel) -> str:
        return ", ".join(server.name for server in channel.servers.all()) or "all"


class DeliveryInline(ReadOnly, DeliveryTabularInline):
    model = Delivery
    fields = ["created_at", "event", "channel", "state", "attempts", "last_error"]
    extra = 0


@admin.register(Incident)
class IncidentAdmin(ReadOnly, IncidentModelAdmin):
    list_display = ["opened_at", "server", "what", "down_for", "worst", "how_it_ended"]
    list_filter = ["server", "failure_kind", "worst", "ending", "opened_at"]
    date_hierarchy = "opened_at"
    list_select_related = ["server"]
    fields = [
        "server",
        "opened_at",
        "recovered_at",
        "closed_at",
        "down_for",
        "how_it_ended",
        "worst",
        "what",
        "detail",
        "hint",
        "changed_at",
    ]
    inlines = [DeliveryInline]

    @admin.display(description="what")
    def what(self, incident: Incident) -> str:
        return incident.failure["title"] if incident.failure else "unknown"

    @admin.display
    def detail(self, incident: Incident) -> str:
        return incident.failure["detail"] if incident.failure else ""

    @admin.display(description="what to do")
    def hint(self, incident: Incident) -> str:
        return incident.failure["hint"] if incident.failure else ""

    @admin.display(description="down for")
    def down_for(self, incident: Incident) -> str:
        end = incident.recovered_at or incident.closed_at
        return duration((end.timestamp() if end else time.time()) - incident.opened_at.timestamp())

    @admin.display(description="ended")
    def how_it_ended(self, incident: Incident) -> str:
        if incident.closed_at is not None:
            return incident.ending
        return "ready, waiting whether it stays so" if incident.recovered_at else "still down"


@admin.register(Delivery)
class DeliveryAdmin(ReadOnly, DeliveryModelAdmin):
    list_display = ["created_at", "channel", "event", "incident", "state", "attempts", "last_error"]
    list_filter = ["state", "channel", "event", "created_at"]
    list_select_related = ["channel", "incident__server"]
    fields = [
        "channel",
        "incident",
        "event",
        "sequence",
        "state",
        "attempts",
        "created_at",
        "next_try_at",
        "sent_at",
        "last_error",
        "text",
    ]

    @admin.display
    def text(self, delivery: Delivery) -> str:
        return str(delivery.alert["text"])


@admin.register(LineWatch)
class LineWatchAdmin(Audited, WatchModelAdmin):
    audited = "watch"
    list_display = ["name", "pattern", "is_pattern", "which", "enabled", "made_by", "made_at"]
    list_filter = ["enabled", "server"]
    list_select_related = ["server"]
    search_fields = ["name", "pattern"]
    readonly_fields = ["made_by", "made_at"]

    @admin.display(description="server")
    def which(self, watch: LineWatch) -> str:
        return watch.server.name if watch.server else "all"

    def save_model(self, request: HttpRequest, obj: LineWatch, form: Any, change: bool) -> None:
        if not change:
            obj.made_by = request.user.get_username()
        super().save_model(request, obj, form, change)
