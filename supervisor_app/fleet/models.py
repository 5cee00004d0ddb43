"""Table of what should run. Those of what is, and of what was, lie beside; each has one writer."""

from __future__ import annotations

import secrets
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q

from supervisor_app.core.diagnosis.named_files import is_router
from supervisor_app.core.setting import LARGEST, Kind
from supervisor_app.core.settings import BY_FIELD
from supervisor_app.core.spec import RestartPolicy
from supervisor_app.fleet.audit_tables import AuditEntry
from supervisor_app.fleet.columns import column
from supervisor_app.fleet.footprint_tables import Footprint
from supervisor_app.fleet.lease_tables import NodeLease, RestartTurn
from supervisor_app.fleet.login_count_tables import LoginCount
from supervisor_app.fleet.login_link_tables import LoginLink
from supervisor_app.fleet.maintenance_tables import Maintenance
from supervisor_app.fleet.run_tables import CrashMark, Run
from supervisor_app.fleet.sample_tables import Pulse, Sample
from supervisor_app.fleet.sign_on_tables import SignOnAccount
from supervisor_app.fleet.span_tables import Span, SpanDay
from supervisor_app.fleet.state_tables import ServerState
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
    "Footprint",
    "LoginCount",
    "LoginLink",
    "Maintenance",
    "NodeLease",
    "Pulse",
    "RestartTurn",
    "Run",
    "Sample",
    "ServerState",
    "SignOnAccount",
    "Span",
    "SpanDay",
    "StatusServer",
]  # tables that are declared elsewhere: Django looks here for them


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


def ports_of(node: str) -> set[int]:
    """Return the ports that servers of a node have, or their processes."""
    servers = LlamaServer.objects.on_node(node)
    ports = servers.values_list("port", "state__port")
    return {port for pair in ports for port in pair if port is not None}
