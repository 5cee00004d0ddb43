"""Configuration to edit, history to read."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from supervisor_app.common import words
from supervisor_app.common.admin import ReadOnly, question
from supervisor_app.core.server_config import Wish
from supervisor_app.core.setting import Section
from supervisor_app.core.settings import settings_of
from supervisor_app.core.status import Status
from supervisor_app.fleet import account_admin  # noqa: F401  (its pages are the admin's, too)
from supervisor_app.fleet.audit import note
from supervisor_app.fleet.commands import ask, nudge, tell_configured
from supervisor_app.fleet.conf import apply_overlay, fixed_fields
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.history import RunCard, own
from supervisor_app.fleet.models import AuditEntry, LlamaServer, Run
from supervisor_app.fleet.server_form import LlamaServerForm
from supervisor_app.fleet.silence import with_silence
from supervisor_app.fleet.snapshots import view_of
from supervisor_app.fleet.versions import configured, note_version, shown

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    ServerModelAdmin = admin.ModelAdmin[LlamaServer]
    RunModelAdmin = admin.ModelAdmin[Run]
    AuditModelAdmin = admin.ModelAdmin[AuditEntry]
else:  # Django's own classes cannot be subscripted
    ServerModelAdmin = RunModelAdmin = AuditModelAdmin = admin.ModelAdmin


FINISH_FIRST = "Requests that are running now may finish first."


@admin.register(LlamaServer)
class LlamaServerAdmin(ServerModelAdmin):
    form = LlamaServerForm
    list_display = ["name", "status", "detail", "model_or_dir", "port", "node"]
    list_filter = ["node"]
    search_fields = ["name", "model_path"]
    actions = ["start", "stop", "restart"]
    fieldsets: ClassVar[Any] = [
        (None, {"fields": ["name", "node", "overridden"]}),
        *(
            (section.value, {"fields": [setting.field for setting in settings_of(section)]})
            for section in Section
            if section is not Section.NODE
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[LlamaServer]:
        return with_silence(super().get_queryset(request).select_related("state"))

    def get_readonly_fields(self, request: HttpRequest, obj: LlamaServer | None = None) -> list[str]:
        """Return the fields that the config file sets, and the name by which the file knows its server."""
        overridden = sorted(fixed_fields(obj, last_good())) if obj else []
        known_by = [*(["name"] if overridden else []), *(["node"] if obj and obj.file else [])]
        return ["overridden", *overridden, *known_by]

    def has_delete_permission(self, request: HttpRequest, obj: LlamaServer | None = None) -> bool:
        """Refuse to delete what the file would bring back."""
        return not (obj and obj.file) and super().has_delete_permission(request, obj)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show fields that the config file sets with its values, and a key not at all."""
        server: LlamaServer = context["adminform"].form.instance
        apply_overlay(server, last_good())
        if server.api_key:
            server.api_key = "set, not shown"
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: LlamaServer, form: Any, change: bool) -> None:
        before = configured(LlamaServer.objects.get(pk=obj.pk)) if change else None
        super().save_model(request, obj, form, change)
        note_version(obj, before, request.user.get_username())
        tell_configured(obj)
        if change and form.changed_data:
            self.message_user(
                request, "If what to launch has changed, the server restarts now, once.", messages.INFO
            )

    def delete_model(self, request: HttpRequest, obj: LlamaServer) -> None:
        with transaction.atomic():
            note("delete", f"server {obj.name}", shown(configured(obj)))
            super().delete_model(request, obj)
        nudge(obj.node)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[LlamaServer]) -> None:
        nodes = set(queryset.values_list("node", flat=True))
        with transaction.atomic():
            for server in queryset:
                note("delete", f"server {server.name}", shown(configured(server)))
            super().delete_queryset(request, queryset)
        for node in nodes:
            nudge(node)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """Allow what only llamaproxy writes to go with its server, although nobody may delete from it."""
        deleted, counts, forbidden, protected = super().get_deleted_objects(objs, request)
        registered = self.admin_site._registry.items()
        history = {str(model._meta.verbose_name) for model, its in registered if isinstance(its, ReadOnly)}
        kept = [f"{server}: remove its table from {server.file}" for server in objs if server.file]
        return deleted, counts, forbidden - history, [*protected, *kept]

    @admin.display(description="from the config file")
    def overridden(self, server: LlamaServer) -> str:
        overlay = last_good()
        names = sorted(fixed_fields(server, overlay))
        if not names:
            return "Nothing: all is edited here."
        return f"{', '.join(names)}: set in {server.file or overlay.source}, change them there."

    @admin.display(ordering="state__status")
    def status(self, server: LlamaServer) -> str:
        return view_of(server).status.status.value

    @admin.display
    def detail(self, server: LlamaServer) -> str:
        return view_of(server).status.detail

    @admin.display(description="model", ordering="model_path")
    def model_or_dir(self, server: LlamaServer) -> str:
        return server.models_dir or server.model_path

    @admin.action(description="Start", permissions=["change"])
    def start(self, request: HttpRequest, queryset: QuerySet[LlamaServer]) -> None:
        self._ask(request, queryset, Wish.START)

    @admin.action(description="Stop", permissions=["change"])
    def stop(self, request: HttpRequest, queryset: QuerySet[LlamaServer]) -> HttpResponse | None:
        says = "The servers stay down until somebody starts them."
        return self._interrupt(request, queryset, Wish.STOP, f"{FINISH_FIRST} {says}")

    @admin.action(description="Restart", permissions=["change"])
    def restart(self, request: HttpRequest, queryset: QuerySet[LlamaServer]) -> HttpResponse | None:
        says = "Each server answers again as soon as its model is loaded."
        return self._interrupt(request, queryset, Wish.RESTART, f"{FINISH_FIRST} {says}")

    def _interrupt(
        self, request: HttpRequest, queryset: QuerySet[LlamaServer], wish: Wish, says: str
    ) -> HttpResponse | None:
        """Do what a page asks before, too: it ends the work of those that are ready."""
        ready = [server for server in queryset if view_of(server).status.status is Status.READY]
        word = wish.value.capitalize()
        title = f"{word} {words.counted(len(ready), 'server')}?"
        asked = question(self, request, queryset, title=title, says=says, yes=word, about=ready)
        if asked is None:
            self._ask(request, queryset, wish)
        return asked

    def _ask(self, request: HttpRequest, queryset: QuerySet[LlamaServer], wish: Wish) -> None:
        servers = LlamaServer.objects.filter(pk__in=queryset.values_list("pk", flat=True))
        count = ask(wish, servers)
        self.message_user(request, f"Asked {words.counted(count, 'server')} to {wish}.")


@admin.register(Run)
class RunAdmin(ReadOnly, RunModelAdmin):
    """The restart history, which only the supervisor writes."""

    list_display = ["started_at", "server", "ended", "failure_title", "uptime_words", "retry", "adopted"]
    list_filter = ["server", "failure_kind", "adopted", "signal", "exit_code", "started_at"]
    search_fields = ["failure_title", "failure_detail", "last_lines"]
    date_hierarchy = "started_at"
    list_select_related = ["server"]
    fields = [
        "server",
        "started_at",
        "ready_at",
        "ended_at",
        "uptime_words",
        "ended",
        "exit_code",
        "signal",
        "failure_kind",
        "failure_title",
        "failure_detail",
        "failure_hint",
        "note",
        "card",
        "memory",
        "proof",
        "served",
        "retry",
        "adopted",
        "pid",
        "command_line",
        "changes",
        "decisive",
        "output",
    ]

    @admin.display(description="ended")
    def ended(self, run: Run) -> str:
        return "runs" if run.ended_at is None else words.ending(run.exit_code, run.signal)

    @admin.display(description="uptime", ordering="started_at")
    def uptime_words(self, run: Run) -> str:
        return words.duration(((run.ended_at or timezone.now()) - run.started_at).total_seconds())

    @admin.display(description="command line")
    def command_line(self, run: Run) -> str:
        return shlex.join(run.argv) or "not started by us"

    @admin.display(description="crash card")
    def card(self, run: Run) -> SafeString:
        return format_html('<a href="{}">Why did it die?</a>', reverse("run", args=[run.server.name, run.pk]))

    @admin.display(description="memory just before")
    def memory(self, run: Run) -> str:
        memory = run.evidence.get("memory")
        if not memory:
            return "unknown"
        size = words.size
        gpus = [f"{size(gpu['used'])} of {size(gpu['total'])} used on a GPU" for gpu in memory["gpus"]]
        limit = [f"limit {size(memory['limit'])}"] if memory["limit"] else []
        host = f"{size(memory['hostAvailable'])} of {size(memory['hostTotal'])} free on the machine"
        return ", ".join([f"{size(own(memory))} of its own", host, *limit, *gpus])

    @admin.display(description="from the kernel")
    def proof(self, run: Run) -> str:
        return "\n".join([run.evidence.get("oom", ""), *run.evidence.get("kernel", [])]).strip() or "nothing"

    @admin.display(description="what was served")
    def served(self, run: Run) -> str:
        models = ", ".join(run.evidence.get("models", []))
        return ". ".join(said for said in (models, run.evidence.get("serving", "")) if said) or "nothing"

    @admin.display(description="changed since it last got ready")
    def changes(self, run: Run) -> str:
        return "\n".join(RunCard(run).changes) or "nothing"

    @admin.display(description="decisive line")
    def decisive(self, run: Run) -> str:
        return run.evidence.get("decisive") or "none"

    @admin.display(description="last 50 lines")
    def output(self, run: Run) -> str:
        return run.last_lines or "none"


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly, AuditModelAdmin):
    """The audit, which nobody changes: the page Audit shows it better."""

    list_display = ["at", "actor", "action", "subject", "door", "address"]
    list_filter = ["door", "at"]
    search_fields = ["actor", "action", "subject"]
    fields = ["at", "actor", "door", "address", "action", "subject", "before", "after"]
    show_full_result_count = False
