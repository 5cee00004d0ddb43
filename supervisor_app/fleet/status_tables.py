"""Table of the servers on the status page of strangers, as admins have chosen them."""

from __future__ import annotations

from django.db import models

LONGEST_TITLE = 60


class StatusServer(models.Model):
    """A server that strangers see. Written by people."""

    server = models.OneToOneField("LlamaServer", models.CASCADE, related_name="on_status_page")
    title = models.CharField(
        max_length=LONGEST_TITLE,
        default="",
        db_default="",
        blank=True,
        help_text="What strangers read instead of its name; empty: the name.",
    )

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.title or str(self.server)
