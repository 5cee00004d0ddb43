"""Table of links that let a user in without a password."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class LoginLink(models.Model):
    """A link that lets a user in without a password: one that an admin has made for a user, or the first one.

    The first one, of nobody, is printed on the console while nobody can log in.

    Only the hash is kept; `used_at` is claimed by a filtered update, so a link works once.
    """

    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    used_at = models.DateTimeField(null=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")

    def __str__(self) -> str:
        return f"made {self.created_at:%Y-%m-%d %H:%M}"
