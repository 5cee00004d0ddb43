"""Table of what was configured: a row for each change of a server."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class ConfigVersion(models.Model):
    """Configuration of a server after a change, without secrets. Written by `fleet.versions` only."""

    server = models.ForeignKey("LlamaServer", models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    at = models.DateTimeField(default=timezone.now)
    author = models.CharField(max_length=1000, default="", help_text="A user, or the file that says it.")
    note = models.CharField(max_length=200, default="")
    values = models.JSONField(default=dict)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["server", "number"], name="configversion_number_once_per_server")
        ]

    def __str__(self) -> str:
        return f"{self.server}, version {self.number}"
