"""The one-time login link of a fresh installation, as Jupyter has it."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from supervisor_app.models import LoginLink

VALID_FOR = timedelta(hours=24)
FIRST_USER = "admin"


def new_login_token() -> str | None:
    """A token for the first user; None when there is a user already. Older ones stop working."""
    if get_user_model().objects.exists():
        return None
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        LoginLink.objects.filter(used_at=None).delete()
        LoginLink.objects.create(token_hash=_hash(token))
    return token


def token_works(token: str) -> bool:
    return LoginLink.objects.filter(**_unused(token)).exists()


@transaction.atomic
def redeem(token: str) -> User | None:
    """The first user, made now, with every right and without a password; None for a token that is spent."""
    if not LoginLink.objects.filter(**_unused(token)).update(used_at=timezone.now()):
        return None
    user, created = User.objects.get_or_create(
        username=FIRST_USER, defaults={"is_staff": True, "is_superuser": True}
    )
    if created:
        user.set_unusable_password()
        user.save()
    return user


def _unused(token: str) -> dict[str, object]:
    return {"token_hash": _hash(token), "used_at": None, "created_at__gte": timezone.now() - VALID_FOR}


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
