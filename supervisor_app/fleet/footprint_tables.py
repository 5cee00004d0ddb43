"""Table of the memory that launches need, as they were estimated and as they have shown."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


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
