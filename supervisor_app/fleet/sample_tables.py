"""Tables of what a server does: figures of each second, minute and hour, and its slots as they are now."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Sample(models.Model):
    """Figures of a server. Written by the supervisor of its node only, in batches.

    A row of seconds holds some of them one by one, a row of a minute or of an hour mean and most of each
    figure: see `fleet.sample_rules`.
    """

    server = models.ForeignKey("LlamaServer", models.CASCADE, related_name="samples")
    step = models.PositiveSmallIntegerField(help_text="Seconds: 1, 60 or 3600.")
    at = models.PositiveBigIntegerField(help_text="Unix seconds of its begin.")
    figures = models.JSONField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["server", "step", "at"], name="sample_once")]
        indexes = [models.Index(fields=["step", "at"], name="sample_step_at")]

    def __str__(self) -> str:
        return f"{self.server}: {self.step} s at {self.at}"


class Pulse(models.Model):
    """Slots and newest figures of a server, written anew while it works. By the supervisor of its node."""

    server = models.OneToOneField("LlamaServer", models.CASCADE, related_name="pulse", primary_key=True)
    seen_at = models.DateTimeField(default=timezone.now, help_text="By the database's clock.")
    slots = models.JSONField(default=list)
    figures = models.JSONField(default=dict, help_text="Seconds that are in no row of samples yet.")

    def __str__(self) -> str:
        return f"{self.server}: {self.seen_at:%Y-%m-%d %H:%M:%S}"
