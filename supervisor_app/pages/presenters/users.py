"""Accounts as the page of users shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from supervisor_app.fleet.sign_on_tables import comes_by_sign_on
from supervisor_app.web.rights import Role, role_by

if TYPE_CHECKING:
    from django.contrib.auth.models import User

ROLES = [
    (Role.VIEWER, gettext_lazy("viewer: sees logs, requests, history")),
    (Role.OPERATOR, gettext_lazy("operator: starts, stops, cancels, mutes, downloads, too")),
    (Role.ADMIN, gettext_lazy("admin: configures, makes keys and users, too")),
]


@dataclass(frozen=True, kw_only=True)
class UserRow:
    """An account. `role` is the one that it would have if it were switched on."""

    user: User
    role: Role | None
    remark: str
    state: str
    tone: str
    by_sign_on: bool


def row_of(user: User) -> UserRow:
    """Return the row of a user whose groups are read already."""
    names = {group.name for group in user.groups.all()}
    role = role_by(names, is_active=True, is_staff=user.is_staff, is_superuser=user.is_superuser)
    remark = ""
    if user.is_superuser:
        remark = _("superuser")
    elif role is Role.ADMIN and Role.ADMIN not in names:
        remark = _("staff without a role")
    by_sign_on = comes_by_sign_on(user)
    waits = not user.has_usable_password()
    if not user.is_active:
        state, tone = _("Switched off"), "calm"
    elif by_sign_on:
        state, tone = _("Active, by single sign-on"), "success"
    else:
        state, tone = (_("No password"), "warn") if waits else (_("Active"), "success")
    return UserRow(user=user, role=role, remark=remark, state=state, tone=tone, by_sign_on=by_sign_on)
