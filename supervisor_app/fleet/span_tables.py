"""Tables of how long a server was what: each span, and a day of spans once it is over."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from supervisor_app.core.spans import SpanState

STATES = [(state.value, state.value) for state in SpanState]


class SpanQuerySet(models.QuerySet["Span"]):
    def open(self) -> SpanQuerySet:
        return self.filter(ended_at=None)


class Span(models.Model):
    """A time in which a server was in one state. Written by the supervisor only, with the state."""

    server = models.ForeignKey("LlamaServer", models.CASCADE, related_name="spans")
    state = models.CharField(max_length=11, choices=STATES)
    down = models.BooleanField(default=False, help_text="Not ready, because of a failure: downtime.")
    reason = models.CharField(max_length=200, default="", blank=True, help_text="Title of that failure.")
    run = models.ForeignKey(
        "Run", models.SET_NULL, null=True, related_name="+", help_text="The run that ended with that failure."
    )
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    summed = models.BooleanField(default=False, help_text="All of its days are over and have their row.")

    objects = SpanQuerySet.as_manager()

    class Meta:
        ordering = ["began_at", "pk"]
        indexes = [
            models.Index(fields=["server", "began_at"]),
            models.Index(fields=["server", "ended_at"]),
            models.Index(fields=["server"], condition=Q(summed=False), name="span_not_summed"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["server"], condition=Q(ended_at=None), name="span_one_open_per_server"
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("began_at")), name="span_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.server}: {self.state} since {self.began_at:%Y-%m-%d %H:%M:%S}"


class SpanDay(models.Model):
    """A day (UTC) of a server, summed once it is over. Written by the supervisor only."""

    server = models.ForeignKey("LlamaServer", models.CASCADE, related_name="span_days")
    day = models.DateField()
    seconds = models.JSONField(default=dict, help_text="Seconds by state.")
    down_seconds = models.FloatField(default=0.0)
    downtimes = models.PositiveIntegerField(default=0, help_text="Downtimes that began on this day.")
    worst = models.CharField(max_length=11, choices=STATES)
    worst_seconds = models.FloatField(default=0.0)
    reason = models.CharField(max_length=200, default="", blank=True, help_text="Of its longest downtime.")
    run = models.ForeignKey("Run", models.SET_NULL, null=True, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["server", "day"], name="spanday_once_per_server")]

    def __str__(self) -> str:
        return f"{self.server}, {self.day}"
