"""Table of the accounts whose people a provider of logins vouches for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class SignOnAccount(models.Model):
    """A person of a provider, and the account here. Written by `fleet.sign_on_accounts` only.

    Issuer and subject together never name anybody else (OpenID Connect Core 1.0, 5.7).
    """

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="sign_on_account")
    issuer = models.CharField(max_length=500)
    subject = models.CharField(max_length=255)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="sign_on_account_once")]

    def __str__(self) -> str:
        return f"{self.subject} of {self.issuer}"


def comes_by_sign_on(user: User) -> bool:
    """Tell whether a provider vouches for a user: its own logins, if any, are not for this user."""
    return settings.LLAMAPROXY_SSO is not None and hasattr(user, "sign_on_account")
