"""The one-time login link of a fresh installation, as Jupyter has it."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from supervisor_app.models import LoginLink

VALID_FOR = timedelta(hours=24)
FIRST_USER = "admin"


def new_login_token() -> str | None:
    """A token for the first user; None when somebody can log in already. Older ones stop working."""
    if _somebody_can_log_in():
        return None
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        LoginLink.objects.filter(used_at=None).delete()
        LoginLink.objects.create(token_hash=_hash(token))
    return token


def token_works(token: str) -> bool:
    return _unused(token).exists() and not _somebody_can_log_in()


@transaction.atomic
def redeem(token: str) -> User | None:
    """The first user, made now, with every right and without a password; None for a token that is spent.

    Also None when somebody has made a user by other means: the link would be a way round their password.
    """
    if not _unused(token).update(used_at=timezone.now()) or _somebody_can_log_in():
        return None
    return User.objects.filter(username=FIRST_USER).first() or User.objects.create_superuser(FIRST_USER)


def _somebody_can_log_in() -> bool:
    """Who came by a link and left before choosing a password cannot: another link lets them in again."""
    return User.objects.exclude(password__startswith=UNUSABLE_PASSWORD_PREFIX).exists()


def _unused(token: str) -> QuerySet[LoginLink]:
    oldest = timezone.now() - VALID_FOR
    return LoginLink.objects.filter(token_hash=_hash(token), used_at=None, created_at__gte=oldest)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
