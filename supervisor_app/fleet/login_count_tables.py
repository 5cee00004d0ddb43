"""Table of failed logins, which all web processes count in."""

from __future__ import annotations

from django.db import models


class LoginCount(models.Model):
    """Failures of an address, or at an account from there. Written by `login_counts` only."""

    key = models.CharField(max_length=64, primary_key=True, help_text="A digest: it names nobody.")
    failures = models.PositiveIntegerField()
    ends_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.failures} until {self.ends_at:%Y-%m-%d %H:%M}"
