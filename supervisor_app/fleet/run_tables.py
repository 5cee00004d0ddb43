"""Tables of what was: each run of a server's process, and what people think of its crashes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone

from supervisor_app.core.status import FailureKind


class RunQuerySet(models.QuerySet["Run"]):
    def open(self) -> RunQuerySet:
        return self.filter(ended_at=None)

    def reached_ready(self) -> RunQuerySet:
        return self.exclude(ready_at=None)


class Run(models.Model):
    """A process from spawn or adoption to its end: the restart history. Written by the supervisor only."""

    server = models.ForeignKey("LlamaServer", models.CASCADE, related_name="runs")
    pid = models.PositiveBigIntegerField(null=True)
    process_start = models.BigIntegerField(null=True)
    boot_id = models.CharField(max_length=100, default="")
    argv = models.JSONField(default=list, help_text="What it was started with; empty when it was adopted.")
    launch = models.JSONField(default=dict, help_text="What was configured to launch it so.")
    secrets = models.CharField(
        max_length=16,
        default="",
        db_default="",
        blank=True,
        help_text="Digest of the secrets of that launch; empty: not known.",
    )
    environment = models.JSONField(
        default=dict, db_default={}, blank=True, help_text="Variables of its own, without secrets."
    )
    build = models.CharField(
        max_length=100,
        default="",
        db_default="",
        blank=True,
        help_text="Of the engine, as far as it is known.",
    )
    adopted = models.BooleanField(default=False)
    retry = models.PositiveIntegerField(default=0, help_text="0: started by a wish. 1, 2, …: after a crash.")
    started_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True)
    loaded = models.JSONField(default=dict, db_default={}, blank=True, help_text="How long its load took.")
    ended_at = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True)
    signal = models.PositiveSmallIntegerField(null=True)
    failure_kind = models.CharField(
        max_length=30, default="", blank=True, choices=[(kind.value, kind.value) for kind in FailureKind]
    )
    failure_title = models.CharField(max_length=200, default="", blank=True)
    failure_detail = models.TextField(default="", blank=True)
    failure_hint = models.TextField(default="", blank=True)
    last_lines = models.TextField(default="", blank=True, help_text="The last 50 lines of its output.")
    evidence = models.JSONField(default=dict, blank=True, help_text="What was known just before it ended.")
    note = models.TextField(default="", blank=True, help_text="Why it was asked to end.")

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]  # in the order in which they were seen, as the pages tell them
        indexes = [models.Index(fields=["server", "-started_at"])]
        constraints = [
            models.UniqueConstraint(
                fields=["server"], condition=Q(ended_at=None), name="run_one_open_per_server"
            ),
            models.CheckConstraint(
                condition=Q(exit_code=None) | Q(signal=None), name="run_exit_code_or_signal"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.server}, {self.started_at:%Y-%m-%d %H:%M:%S}"

    @property
    def uptime(self) -> timedelta:
        return max((self.ended_at or timezone.now()) - self.started_at, timedelta())


class CrashMark(models.Model):
    """Judgement of people on crashes of one kind, decisive line and model of a server. Written by staff."""

    server = models.ForeignKey("LlamaServer", models.CASCADE, related_name="crash_marks")
    key = models.CharField(max_length=32, help_text="What the crashes share: `likeness.key_of`.")
    title = models.CharField(max_length=300, help_text="How the crashes are told apart by people.")
    resolved_build = models.CharField(max_length=100, default="", help_text="Empty: they are not resolved.")
    resolved_by = models.CharField(max_length=150, default="")
    resolved_at = models.DateTimeField(null=True)
    mute_above = models.PositiveIntegerField(
        null=True, help_text="Crashes a day up to which nobody is alerted; empty: the first one is told."
    )
    muted_by = models.CharField(max_length=150, default="")
    muted_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["server", "key"], name="crash_mark_once_per_server")]

    def __str__(self) -> str:
        return f"{self.server}: {self.title}"


def json_of_failure(run: Run) -> dict[str, Any] | None:
    if not run.failure_kind:
        return None
    return {
        "kind": run.failure_kind,
        "title": run.failure_title,
        "detail": run.failure_detail,
        "hint": run.failure_hint,
    }
