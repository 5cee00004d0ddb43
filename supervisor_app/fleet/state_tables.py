"""Table of what is: the snapshot of each server, which its supervisor publishes."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from supervisor_app.core.spec import RestartPolicy
from supervisor_app.core.status import Status


class ServerState(models.Model):
    """The published snapshot of one server and its process' identity. Written by the supervisor only."""

    server = models.OneToOneField("LlamaServer", models.CASCADE, related_name="state", primary_key=True)
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
    down_since = models.DateTimeField(null=True, help_text="Not ready since then; null: it is not down.")
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
