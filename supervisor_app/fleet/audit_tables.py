"""Table of what people did: a row for each act, which nothing changes afterwards."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone


class UnchangeableError(TypeError):
    """A row of the audit was to be changed."""

    def __init__(self) -> None:
        super().__init__("What the audit says stays as it is: write another row with fleet.audit.record.")


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    def update(self, **_values: Any) -> int:
        raise UnchangeableError

    def bulk_update(self, *_objects: Any, **_options: Any) -> int:
        raise UnchangeableError


class AuditEntry(models.Model):
    """An act of somebody, without secrets. Written by `fleet.audit` only, deleted by age alone."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    actor = models.CharField(max_length=1000, help_text="A user, a key, a file, or the console.")
    door = models.CharField(max_length=10, help_text="The way in: page, api, admin, cli or file.")
    action = models.CharField(max_length=100)
    subject = models.CharField(max_length=300)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    address = models.CharField(max_length=100, default="", help_text="From where; empty: from this host.")

    objects = AuditQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=["actor", "-id"], name="audit_of_actor"),
            models.Index(fields=["action", "-id"], name="audit_of_action"),
        ]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.subject}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise UnchangeableError
        super().save(*args, **kwargs)
