"""Logins in the audit, whichever way they came: those that succeed, those that fail, and the throttle.

A refused try of an address that is throttled already writes nothing, so a flood of guesses fills no table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_login_failed

from supervisor_app.fleet.audit import note
from supervisor_app.web.sign_on import SINGLE_SIGN_ON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.contrib.auth.models import AbstractBaseUser
    from django.http import HttpRequest


def _logged_in(request: HttpRequest, user: AbstractBaseUser, **_: Any) -> None:
    if request.method:  # none: a test's login, through no door
        note("log in", f"user {user.get_username()}")


def _failed(credentials: Mapping[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """Write down a failure that django-axes has counted. A name that no account has may be a password."""
    failures = getattr(request, "axes_failures_since_start", None)
    if not failures:
        return
    name = str(credentials.get("username", ""))
    if name == SINGLE_SIGN_ON:
        subject = name
    else:
        is_known = get_user_model().objects.filter(username=name).exists()
        subject = f"user {name}" if is_known else "no such user"
    note("fail to log in", subject)
    if failures >= settings.AXES_FAILURE_LIMIT:
        note("throttle logins", subject, None, {"failures": failures, "for": settings.AXES_COOLOFF_TIME})


def install() -> None:
    """Listen from now on. After django-axes, which counts first."""
    user_logged_in.connect(_logged_in, dispatch_uid="audit of logins")
    user_login_failed.connect(_failed, dispatch_uid="audit of failed logins")
