"""Keys to make and to limit; requests and quarantine to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import DateTimeField
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from supervisor_app.common.admin import NamesField, ReadOnly, SplitDateTime, question
from supervisor_app.fleet.audit import note
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.gateway.llama.operations import Scope
from supervisor_app.traffic.families import FamiliesField
from supervisor_app.traffic.issuing import issue, switch
from supervisor_app.traffic.models import WORDS, ApiKey, QuarantinedRequest, RequestRecord
from supervisor_app.traffic.quarantine import release as let_go
from supervisor_app.traffic.shown import held_for, spent, tokens

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    from supervisor_app.traffic.models import QuarantinedQuerySet

    KeyModelForm = forms.ModelForm[ApiKey]
    KeyModelAdmin = admin.ModelAdmin[ApiKey]
    RecordModelAdmin = admin.ModelAdmin[RequestRecord]
    QuarantineModelAdmin = admin.ModelAdmin[QuarantinedRequest]
else:  # Django's own classes cannot be subscripted
    KeyModelForm = forms.ModelForm
    KeyModelAdmin = RecordModelAdmin = QuarantineModelAdmin = admin.ModelAdmin


class ApiKeyForm(KeyModelForm):
    allowed_models = NamesField(label="Models", help_text=ApiKey._meta.get_field("allowed_models").help_text)
    allowed_families = FamiliesField()

    class Meta:
        model = ApiKey
        fields = "__all__"


@admin.register(ApiKey)
class ApiKeyAdmin(KeyModelAdmin):
    form = ApiKeyForm
    formfield_overrides: ClassVar = {DateTimeField: {"widget": SplitDateTime}}
    list_display = ["name", "beginning", "state", "rights", "limits", "expires_at", "last_used_at"]
    list_filter = ["enabled", "may_read", "may_change", "expires_at", "last_used_at"]
    search_fields = ["name", "prefix"]
    readonly_fields = ["beginning", "created_at", "last_used_at"]
    actions = ["switch_on", "switch_off"]
    fieldsets = [
        (None, {"fields": ["name", "note", "enabled", "expires_at", "allowed_models"]}),
        ("Rights", {"fields": ["allowed_families", "may_read", "may_change", "isolate_cache"]}),
        (
            "Limits",
            {"fields": ["requests_per_minute", "tokens_per_minute", "max_concurrent", "tokens_per_month"]},
        ),
        ("For finding mistakes", {"fields": ["capture"]}),
        ("About it", {"fields": ["beginning", "created_at", "last_used_at"]}),
    ]

    def get_fieldsets(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        return self.fieldsets if obj else self.fieldsets[:-1]

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        """Let a key that was used keep its name: the sums of its budget are kept by it."""
        return [*self.readonly_fields, *(["name"] if obj and obj.last_used_at else [])]

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """A new one gets its secret here; it goes to the page that answers this request and nowhere else."""
        if not change:
            request.fresh_api_key = issue(obj)  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)
        after = {name: getattr(obj, name) for name in form.changed_data}
        if change:
            note("configure", f"key {obj.name}", {name: form.initial.get(name) for name in after}, after)
        else:
            note("add", f"key {obj.name}", None, {"begins": obj.prefix, **after})

    @transaction.atomic
    def delete_model(self, request: HttpRequest, obj: ApiKey) -> None:
        note("delete", f"key {obj.name}", {"begins": obj.prefix})
        super().delete_model(request, obj)

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            note("delete", f"key {key.name}", {"begins": key.prefix})
        super().delete_queryset(request, queryset)

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"The key of {obj}",
            "original": obj,
            "key": request.fresh_api_key,  # type: ignore[attr-defined]
            "again": reverse("admin:traffic_apikey_add") if "_addanother" in request.POST else "",
        }
        return TemplateResponse(request, "admin/traffic/apikey/made.html", context)

    @admin.action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        self.message_user(request, f"Switched on: {switch(queryset, on=True)}.")

    @admin.action(description="Switch off", permissions=["change"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponse | None:
        asked = question(
            self,
            request,
            queryset,
            title="Switch these keys off?",
            says="Programs with them are refused within a second, and requests in flight end.",
            yes="Switch off",
            about=queryset.filter(enabled=True),
        )
        if asked is None:
            self.message_user(request, f"Switched off: {switch(queryset, on=False)}.")
        return asked

    @admin.display(description="begins with", ordering="prefix")
    def beginning(self, key: ApiKey) -> SafeString:
        return format_html("<code>{}…</code>", key.prefix)

    @admin.display(description="now")
    def state(self, key: ApiKey) -> str:
        if not key.enabled:
            return "switched off"
        return "expired" if key.expires_at and key.expires_at <= timezone.now() else "works"

    @admin.display
    def rights(self, key: ApiKey) -> str:
        return ", ".join(scope for scope in Scope if scope in key.scopes)

    @admin.display
    def limits(self, key: ApiKey) -> str:
        limits = [
            (key.requests_per_minute, "requests/min"),
            (key.tokens_per_minute, "tokens/min"),
            (key.max_concurrent, "at once"),
            (key.tokens_per_month, "tokens/month"),
        ]
        said = [f"{limit} {unit}" for limit, unit in limits if limit]
        only = (*key.allowed_models, *key.allowed_families)
        return ", ".join([*said, *(f"only {name}" for name in only)]) or "none"


class NameFilter(admin.SimpleListFilter):
    """A filter by the names that exist now: to find past ones in millions of records takes seconds."""

    model: type[ApiKey | LlamaServer]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in self.model._default_manager.values_list("name", flat=True)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[RequestRecord]) -> QuerySet[RequestRecord]:
        name = self.value()
        return queryset if name is None else queryset.filter((self.parameter_name, name))


class ServerFilter(NameFilter):
    title = parameter_name = "server"
    model = LlamaServer


class KeyFilter(NameFilter):
    title = parameter_name = "key"
    model = ApiKey


class StatusFilter(admin.SimpleListFilter):
    title = parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("2", "2xx"), ("4", "4xx"), ("5", "5xx"), ("none", "none: its client left")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[RequestRecord]) -> QuerySet[RequestRecord]:
        match self.value():
            case "none":
                return queryset.filter(status=None)
            case "2" | "4" | "5" as hundreds:
                first = int(hundreds) * 100
                return queryset.filter(status__range=(first, first + 99))
        return queryset


@admin.register(RequestRecord)
class RequestRecordAdmin(ReadOnly, RecordModelAdmin):
    """Records of requests. Nobody writes them but the gateways, which also prune them."""

    list_display = ["at", "server", "model", "outcome", "status", "held", "first", "took", "used", "key"]
    list_filter = [ServerFilter, "outcome", StatusFilter, KeyFilter, "at"]
    search_fields = ["server", "model", "key", "route", "incident", "request_id"]
    date_hierarchy = "at"
    list_per_page = 50
    show_full_result_count = False
    fields = [
        "at",
        "server",
        "model",
        "key",
        "method",
        "route",
        "status",
        "outcome",
        "incident",
        "request_id",
        "streamed",
        "held",
        "for_load",
        "first",
        "took",
        "replays",
        "prompt_tokens",
        "cached_tokens",
        "generated_tokens",
        "tokens_per_second",
        "drafted_tokens",
        "accepted_tokens",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[RequestRecord]:
        return super().get_queryset(request).defer(*WORDS)

    def get_fields(self, request: HttpRequest, obj: RequestRecord | None = None) -> Any:
        """Leave out what was said where it was not kept."""
        kept = obj is not None and obj.captured_request is not None
        return [*self.fields, *(["said"] if kept else [])]

    @admin.display(description=_("what was said"))
    def said(self, record: RequestRecord) -> str:
        page = reverse("request", args=[record.pk])
        return format_html('<a href="{}">{}</a>', page, _("Conversation, heads and bodies"))

    @admin.display(ordering="held_ms")
    def held(self, record: RequestRecord) -> str:
        return spent(record.held_ms or None)

    @admin.display(description="of which")
    def for_load(self, record: RequestRecord) -> str:
        return held_for(record) or "–"

    @admin.display(description="first token", ordering="ttft_ms")
    def first(self, record: RequestRecord) -> str:
        return spent(record.ttft_ms)

    @admin.display(description="duration", ordering="duration_ms")
    def took(self, record: RequestRecord) -> str:
        return spent(record.duration_ms)

    @admin.display(description="tokens")
    def used(self, record: RequestRecord) -> str:
        return tokens(record)


@admin.register(QuarantinedRequest)
class QuarantinedRequestAdmin(ReadOnly, QuarantineModelAdmin):
    """Requests that killed their server. Each may be released, and then be tried once more."""

    list_display = ["at", "server", "incident", "reason", "until", "in_force"]
    list_filter = ["server", "at"]
    fields = ["server", "incident", "reason", "at", "until", "body_hash"]
    actions = ["release"]

    @admin.action(description="Release: let it be tried again", permissions=["release"])
    def release(self, request: HttpRequest, queryset: QuarantinedQuerySet) -> HttpResponse | None:
        asked = question(
            self,
            request,
            queryset,
            title="Release these requests?",
            says="Whoever sends one of them again reaches a server that has died of it before.",
            yes="Release",
            about=queryset,
        )
        if asked is None:
            self.message_user(request, f"Released: {let_go(queryset)}.", messages.SUCCESS)
        return asked

    def has_release_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("traffic.delete_quarantinedrequest")

    @admin.display(description="in force", boolean=True)
    def in_force(self, entry: QuarantinedRequest) -> bool:
        return entry.until > timezone.now()
