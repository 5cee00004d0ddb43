"""Table of planned work: while a row is in force, nobody is told of its servers, and nothing is downtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models.functions import Now


class MaintenanceQuerySet(models.QuerySet["Maintenance"]):
    def in_force(self, now: datetime | Now) -> MaintenanceQuerySet:
        return self.filter(Q(until=None) | Q(until__gt=now), ended_at=None)


class Maintenance(models.Model):
    """A time of planned work. Written by people; a row whose `until` is over has ended by itself."""

    server = models.ForeignKey(
        "LlamaServer",
        models.CASCADE,
        null=True,
        related_name="maintenances",
        help_text="None: all servers, also those to come.",
    )
    note = models.CharField(max_length=200, default="", blank=True)
    begun_at = models.DateTimeField(default=timezone.now)
    begun_by = models.CharField(max_length=1000, default="", blank=True)
    until = models.DateTimeField(null=True, help_text="Empty: until somebody ends it.")
    ended_at = models.DateTimeField(null=True, help_text="When somebody ended it.")

    objects = MaintenanceQuerySet.as_manager()

    class Meta:
        ordering = ["-begun_at", "-pk"]
        verbose_name_plural = "maintenances"
        indexes = [
            models.Index(fields=["begun_at"], condition=Q(ended_at=None), name="maintenance_not_ended")
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(until=None) | Q(until__gte=F("begun_at")), name="maintenance_not_negative"
            )
        ]

    def __str__(self) -> str:
        return f"{self.server or 'all servers'} since {self.begun_at:%Y-%m-%d %H:%M}"

    @property
    def over_at(self) -> datetime | None:
        """Return its end; None: nobody knows yet."""
        return min((end for end in (self.until, self.ended_at) if end is not None), default=None)
