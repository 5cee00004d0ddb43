"""Login links that work once: of a fresh installation, as Jupyter has it, and those that admins make."""

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
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from supervisor_app.common.sub_path import script_prefix
from supervisor_app.fleet.models import LoginLink
from supervisor_app.web.rights import Role

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
        LoginLink.objects.filter(used_at=None, user=None).delete()
        LoginLink.objects.create(token_hash=_hash(token))
    return token


def link_for(user: User) -> str:
    """Make a token that lets a user in once, to choose a password. Older ones stop working."""
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        LoginLink.objects.filter(used_at=None, user=user).delete()
        LoginLink.objects.create(token_hash=_hash(token), user=user)
    return token


def unused_link(token: str) -> LoginLink | None:
    """Return the link of a token while it works: the first one does as long as nobody can log in."""
    link = _unused(token).select_related("user").first()
    if link is None or (link.user is None and _somebody_can_log_in()):
        return None
    return link if link.user is None or link.user.is_active else None


@transaction.atomic
def redeem(token: str) -> User | None:
    """Return the user of a token, or make the first one, with every right and without a password.

    None for a token that is spent. Also when somebody has made a user by other means: the first link would be
    a way round their password.
    """
    link = unused_link(token)
    if link is None or not _unused(token).update(used_at=timezone.now()):
        return None
    if link.user is not None:
        return link.user
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
    if not LoginLink.objects.filter(
        user=None, used_at=None, created_at__gte=timezone.now() - VALID_FOR
    ).exists():
        token = new_login_token()
        if token is not None:
            say_link(request.build_absolute_uri(link_of(token)))


def _somebody_can_log_in() -> bool:
    """Tell whether there is an admin with a password: nobody else makes the first login superfluous."""
    admins = User.objects.filter(Q(is_staff=True) | Q(groups__name=Role.ADMIN), is_active=True)
    return admins.exclude(password__startswith=UNUSABLE_PASSWORD_PREFIX).exists()


def _unused(token: str) -> QuerySet[LoginLink]:
    oldest = timezone.now() - VALID_FOR
    return LoginLink.objects.filter(token_hash=_hash(token), used_at=None, created_at__gte=oldest)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
