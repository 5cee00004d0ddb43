"""The one-time login link of a fresh installation, as Jupyter has it."""

from __future__ import annotations

import hashlib
import logging
import secrets
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.auth.models import User
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from supervisor_app.common.sub_path import script_prefix
from supervisor_app.fleet.models import LoginLink

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

log = logging.getLogger(__name__)

VALID_FOR = timedelta(hours=24)
FIRST_USER = "admin"


def new_login_token() -> str | None:
    """Make a token for the first user; None when somebody can log in already. Older tokens stop working."""
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
    """Make the first user, with every right and without a password; None for a token that is spent.

    Also None when somebody has made a user by other means: the link would be a way round their password.
    """
    if not _unused(token).update(used_at=timezone.now()) or _somebody_can_log_in():
        return None
    came_before = User.objects.filter(
        is_active=True, is_superuser=True, password__startswith=UNUSABLE_PASSWORD_PREFIX
    ).first()
    return came_before or User.objects.create_superuser(_free_name())


def _free_name() -> str:
    """Return a name that no account has: a person who knows the password of one must not gain every right."""
    taken = set(User.objects.filter(username__startswith=FIRST_USER).values_list("username", flat=True))
    names = (FIRST_USER if number == 1 else f"{FIRST_USER}-{number}" for number in count(1))
    return next(name for name in names if name not in taken)


def link_of(token: str) -> str:
    """Return the path at which a token logs in."""
    with script_prefix():
        return reverse("login-link", args=[token])


def say_link(link: str) -> None:
    log.info("🔑 [WEB] First login, works once: %s", link)


def say_another_link(request: HttpRequest) -> None:
    """Print a new link while nobody can log in and no link works any more.

    The first user may have logged out, or closed the browser, before choosing a password.
    """
    if not LoginLink.objects.filter(used_at=None, created_at__gte=timezone.now() - VALID_FOR).exists():
        token = new_login_token()
        if token is not None:
            say_link(request.build_absolute_uri(link_of(token)))


def _somebody_can_log_in() -> bool:
    """Tell whether there is staff with a password: nobody else makes the first login superfluous."""
    staff = User.objects.filter(is_active=True, is_staff=True)
    return staff.exclude(password__startswith=UNUSABLE_PASSWORD_PREFIX).exists()


def _unused(token: str) -> QuerySet[LoginLink]:
    oldest = timezone.now() - VALID_FOR
    return LoginLink.objects.filter(token_hash=_hash(token), used_at=None, created_at__gte=oldest)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
