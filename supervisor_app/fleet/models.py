"""Tables of what should run (`LlamaServer`) and of what is (`ServerState`). One writer each."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from supervisor_app.core.diagnosis.named_files import is_router
from supervisor_app.core.setting import LARGEST, Kind
from supervisor_app.core.settings import BY_FIELD
from supervisor_app.core.spec import RestartPolicy
from supervisor_app.core.status import Status
from supervisor_app.fleet.audit_tables import AuditEntry
from supervisor_app.fleet.columns import column
from supervisor_app.fleet.holder import Holder
from supervisor_app.fleet.login_count_tables import LoginCount
from supervisor_app.fleet.maintenance_tables import Maintenance
from supervisor_app.fleet.run_tables import CrashMark, Run
from supervisor_app.fleet.sample_tables import Pulse, Sample
from supervisor_app.fleet.sign_on_tables import SignOnAccount
from supervisor_app.fleet.span_tables import Span, SpanDay
from supervisor_app.fleet.status_tables import StatusServer
from supervisor_app.fleet.validators import (
    validate_api_key,
    validate_args,
    validate_host,
    validate_names,
    validate_port,
    validate_presets,
)
from supervisor_app.fleet.version_tables import ConfigVersion

__all__ = [
    "AuditEntry",
    "ConfigVersion",
    "CrashMark",
    "LoginCount",
    "Maintenance",
    "Pulse",
    "Run",
    "Sample",
    "SignOnAccount",
    "Span",
    "SpanDay",
    "StatusServer",
]  # tables that are declared elsewhere: Django looks here for them

SILENT_AFTER = timedelta(seconds=15)
"""Three heartbeats: a supervisor that has not written for so long is taken for gone."""


def this_node() -> str:
    return str(settings.LLAMAPROXY_NODE)


def new_key() -> str:
    """Return a random key that nobody can guess."""
    return f"sk-{secrets.token_urlsafe(32)}"


class LlamaServerQuerySet(models.QuerySet["LlamaServer"]):
    def on_node(self, node: str) -> LlamaServerQuerySet:
        return self.filter(node=node)

    def ask_to_start(self) -> int:
        return self.update(
            desired_running=True, stopped_for_idleness=False, at_once=False, generation=F("generation") + 1
        )

    def ask_to_stop(self, *, at_once: bool = False) -> int:
        return self.update(
            desired_running=False,
            stopped_for_idleness=False,
            at_once=at_once,
            generation=F("generation") + 1,
        )

    def ask_to_idle(self) -> int:
        """Stop until the next request. A server that somebody has stopped for good stays stopped."""
        return self.filter(desired_running=True).update(
            desired_running=False, stopped_for_idleness=True, at_once=False, generation=F("generation") + 1
        )

    def ask_to_restart(self, *, seamless: bool = False, at_once: bool = False) -> int:
        return self.update(
            desired_running=True,
            stopped_for_idleness=False,
            generation=F("generation") + 1,
            restart_generation=F("generation") + 1,
            restart_seamless=seamless,
            at_once=at_once,
        )


class LlamaServer(models.Model):
    """A llama-server that should run. Written by people: admin, pages, API, CLI. Read by the supervisor.

    A command raises `generation`; the supervisor remembers up to which generation it has acted. So a lost
    nudge costs a second and a doubled one nothing.
    """

    name = models.SlugField(unique=True, help_text="In addresses and logs. Letters, digits, - and _.")
    node = models.CharField(
        max_length=100,
        default=this_node,
        help_text="The host whose supervisor runs it (its LLAMAPROXY_NODE).",
    )
    model_path = models.CharField(**column("model_path"))
    models_dir = models.CharField(**column("models_dir"))
    engine = models.CharField(
        db_default="",  # a process of the version before inserts without it
        **column("engine"),
    )
    host = models.CharField(**column("host", validate_host))
    port = models.PositiveIntegerField(**column("port", validate_port))
    args = models.JSONField(**column("args", validate_args))
    # null: nobody has named a key, so the server has a random one
    api_key = models.CharField(null=True, **column("api_key", validate_api_key))  # noqa: DJ001
    own_key = models.CharField(
        max_length=64, default=new_key, editable=False, help_text="The random key, unless api_key is said."
    )
    max_retries = models.PositiveIntegerField(**column("max_retries"))
    retry_backoff_ms = models.PositiveIntegerField(**column("retry_backoff_ms"))
    max_backoff_ms = models.PositiveIntegerField(**column("max_backoff_ms"))
    retry_forever = models.BooleanField(**column("retry_forever"))
    stable_after_ms = models.PositiveIntegerField(**column("stable_after_ms"))
    drain_seconds = models.PositiveIntegerField(
        db_default=RestartPolicy.drain_seconds,  # a process of the version before inserts without it
        **column("drain_seconds"),
    )
    stop_grace_ms = models.PositiveIntegerField(**column("stop_grace_ms"))
    health_check_interval_ms = models.PositiveIntegerField(**column("health_check_interval_ms"))
    health_check_timeout_ms = models.PositiveIntegerField(**column("health_check_timeout_ms"))
    max_health_checks = models.PositiveIntegerField(**column("max_health_checks"))
    max_load_seconds = models.PositiveIntegerField(**column("max_load_seconds"))
    stall_seconds = models.PositiveIntegerField(**column("stall_seconds"))
    max_memory_mb = models.PositiveIntegerField(**column("max_memory_mb"))
    canary_minutes = models.PositiveIntegerField(**column("canary_minutes"))
    hold_seconds = models.PositiveIntegerField(**column("hold_seconds"))
    idle_stop_seconds = models.PositiveIntegerField(**column("idle_stop_seconds"))
    max_concurrent = models.PositiveIntegerField(**column("max_concurrent"))
    max_queue = models.PositiveIntegerField(**column("max_queue"))
    aliases = models.JSONField(**column("aliases", validate_names))
    # a process of the version before inserts without these six
    seamless = models.BooleanField(db_default=False, **column("seamless"))
    keep_context = models.BooleanField(db_default=False, **column("keep_context"))
    presets = models.JSONField(db_default={}, **column("presets", validate_presets))
    group = models.CharField(db_default="", **column("group"))
    pinned = models.BooleanField(db_default=False, **column("pinned"))
    priority = models.PositiveIntegerField(db_default=0, **column("priority"))
    file = models.CharField(
        max_length=1000,
        default="",
        db_default="",  # a process of the version before inserts without it
        editable=False,
        help_text="That describes it; empty: people made it.",
    )
    file_fields = models.JSONField(
        default=list, db_default=[], editable=False, help_text="Fields that the file sets."
    )
    desired_running = models.BooleanField(default=True, editable=False)
    stopped_for_idleness = models.BooleanField(default=False, editable=False)
    generation = models.PositiveBigIntegerField(default=1, editable=False)
    restart_generation = models.PositiveBigIntegerField(default=0, editable=False)
    restart_seamless = models.BooleanField(
        default=False, db_default=False, editable=False, help_text="That restart is to be without a gap."
    )

    at_once = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="The last wish does not wait for requests in flight.",
    )

    objects = LlamaServerQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(port__gte=1, port__lte=65535),
                name="llamaserver_port_range",
                violation_error_message="The port must be 1 to 65535.",
            ),
            models.CheckConstraint(
                condition=~Q(model_path="") | ~Q(models_dir=""),
                name="llamaserver_has_a_model",
                violation_error_message="Set a model path or a models directory.",
            ),
            models.UniqueConstraint(
                fields=["node", "port"],
                name="llamaserver_port_once_per_node",
                violation_error_message="Another server of this node has that port.",
            ),
            models.CheckConstraint(
                condition=Q(restart_generation__lte=F("generation")),
                name="llamaserver_restart_not_in_future",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def port_is_chosen(self) -> bool:
        """Was the port chosen from a range? People have named any other."""
        return bool(self.file) and "port" not in self.file_fields

    @property
    def key(self) -> str:
        """The key that llama-server asks its clients for; empty when people want none.

        With a key file llama-server asks for a key in any case: ours is passed beside those of the file.
        """
        has_key_file = any(str(arg).replace("_", "-") == "--api-key-file" for arg in self.args)
        return self.own_key if self.api_key is None or (has_key_file and not self.api_key) else self.api_key

    def clean(self) -> None:
        for setting in BY_FIELD.values():
            value = getattr(self, setting.field)
            if setting.kind is Kind.NUMBER and value is not None and value > LARGEST:
                raise ValidationError(f"{setting.field} is {value}: the largest that works is {LARGEST}.")
        if self.presets and (self.models_dir or is_router(map(str, self.args))):
            raise ValidationError(
                "A router has no presets: it goes by the model that a request names. Make a server of one "
                "model, or leave presets out."
            )
        longest: int | None = self.max_backoff_ms
        first: int | None = self.retry_backoff_ms
        if longest is not None and first is not None and longest < first:  # None: that field was bad itself
            raise ValidationError(f"The longest wait ({longest} ms) is less than the first ({first} ms).")


def default_of(field: str) -> Any:
    """Return the default of a column of `LlamaServer`."""
    meta: Any = LlamaServer._meta
    return meta.get_field(field).get_default()


class ServerState(models.Model):
    """The published snapshot of one server and its process' identity. Written by the supervisor only."""

    server = models.OneToOneField(LlamaServer, models.CASCADE, related_name="state", primary_key=True)
    version = models.PositiveBigIntegerField(default=0)
    status = models.CharField(
        max_length=10, choices=[(status.value, status.value) for status in Status], default=Status.INITIAL
    )
    detail = models.TextField(default="")
    url = models.CharField(max_length=300, default="")
    served = models.JSONField(default=list, help_text="The models it offers.")
    last_error = models.TextField(null=True)  # noqa: DJ001  (null is the contract's word for "none")
    failure = models.JSONField(null=True)
    retries = models.PositiveIntegerField(default=0)
    max_retries = models.PositiveIntegerField(default=RestartPolicy.max_retries)
    started_at = models.DateTimeField(null=True)
    ready_at = models.DateTimeField(null=True)
    next_retry_at = models.DateTimeField(null=True)
    progress = models.JSONField(null=True)
    can_roll_back = models.BooleanField(default=False)
    draining = models.BooleanField(
        default=False, db_default=False, help_text="It takes no new requests, and makes room then."
    )
    unloaded = models.BooleanField(
        default=False,
        db_default=False,
        help_text="It is to run, and waits without a process until it is asked.",
    )
    warnings = models.JSONField(default=list)
    adopted = models.BooleanField(default=False)
    pid = models.PositiveBigIntegerField(null=True)
    process_start = models.BigIntegerField(null=True)
    boot_id = models.CharField(max_length=100, default="")
    endpoint = models.JSONField(null=True, help_text="Where the process was proved to listen.")
    replacement = models.JSONField(null=True, help_text="Its restart without a gap.")
    port = models.PositiveIntegerField(
        null=True, help_text="Of the newest process that took another's place; null: the configured one."
    )
    generation = models.PositiveBigIntegerField(default=0)
    # Beside the runs, of which the oldest are deleted: a counter must never fall.
    starts = models.PositiveBigIntegerField(default=0, help_text="Processes started so far.")
    failures = models.JSONField(default=dict, help_text="Lives that ended in a failure so far, by its kind.")
    contexts = models.JSONField(
        default=dict, db_default={}, help_text="Conversations kept over a planned end so far, by outcome."
    )
    loads = models.JSONField(
        default=dict,
        db_default={},
        help_text="Loads so far, their milliseconds, and how often it made room or was refused.",
    )
    seen_at = models.DateTimeField(default=timezone.now)
    footprint = models.ForeignKey(
        "Footprint", models.SET_NULL, null=True, related_name="+", help_text="What it needs of memory."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=[status.value for status in Status]), name="serverstate_status_known"
            ),
            models.CheckConstraint(
                condition=~Q(status=Status.READY) | Q(started_at__isnull=False),
                name="serverstate_ready_has_a_process",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.server}: {self.status}"


def ports_of(node: str) -> set[int]:
    """Return the ports that servers of a node have, or their processes."""
    servers = LlamaServer.objects.on_node(node)
    ports = servers.values_list("port", "state__port")
    return {port for pair in ports for port in pair if port is not None}


class Footprint(models.Model):
    """Memory that a launch needs. Written by the supervisor of its node only; see `fleet.footprint_record`.

    Bytes by device, as `core.devices.Device.id` names it.
    """

    node = models.CharField(max_length=100)
    identity = models.CharField(
        max_length=64, help_text="Digest of the model's files and the flags that matter."
    )
    build = models.CharField(max_length=100, help_text="Of the engine.")
    model = models.CharField(max_length=300, help_text="Name of the model's first file.")
    flags = models.TextField(help_text="Flags that matter for memory.")
    estimated = models.JSONField(default=dict)
    told = models.JSONField(default=dict, help_text="By the engine.")
    measured = models.JSONField(default=dict, help_text="The peak of all its runs.")
    runs = models.PositiveIntegerField(default=0)
    run = models.CharField(max_length=300, default="", help_text="The last run that was measured.")
    measured_at = models.DateTimeField(null=True)
    raised = models.JSONField(default=dict, help_text="Least after a run died for want of memory.")
    died_at = models.DateTimeField(null=True)
    used_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["node", "identity", "build"], name="footprint_once_per_launch")
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.flags} ({self.build})"


class NodeLease(models.Model):
    """The supervisor of a node. Written by that supervisor, by compare and swap."""

    node = models.CharField(max_length=100, unique=True)
    holder = models.CharField(max_length=400)
    token = models.CharField(max_length=32)
    renewed_at = models.DateTimeField(help_text="By the database's clock: those of hosts differ.")
    devices = models.JSONField(null=True, help_text="Its memory and GPUs, as they were seen last.")

    def __str__(self) -> str:
        return f"{self.node}: {self.by}"

    @property
    def by(self) -> Holder:
        return Holder.parse(self.holder)


class RestartTurn(models.Model):
    """The turn of one server to be down for a restart, among all that answer to an alias.

    Good while a supervisor holds the server's node. Written by that supervisor.
    """

    alias = models.TextField(unique=True)
    holder = models.ForeignKey(LlamaServer, models.CASCADE, related_name="turns")
    since = models.DateTimeField(help_text="By the database's clock.")

    def __str__(self) -> str:
        return f"{self.alias}: {self.holder}"


class LoginLink(models.Model):
    """A link that lets a user in without a password: one that an admin has made for a user, or the first one.

    The first one, of nobody, is printed on the console while nobody can log in.

    Only the hash is kept; `used_at` is claimed by a filtered update, so a link works once.
    """

    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    used_at = models.DateTimeField(null=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")

    def __str__(self) -> str:
        return f"made {self.created_at:%Y-%m-%d %H:%M}"
