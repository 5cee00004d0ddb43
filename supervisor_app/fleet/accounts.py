"""Accounts of people: added, given a role, switched off, let in by a link. Each is in the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from supervisor_app.fleet.audit import note
from supervisor_app.fleet.logins import link_for
from supervisor_app.fleet.sign_on_tables import comes_by_sign_on
from supervisor_app.web.rights import Right, Role, may, role_of

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


class AccountError(Exception):
    """An act on an account that is refused. Its message is for people."""


def told_of(user: User) -> dict[str, Any]:
    """Return what the audit tells of an account, read anew."""
    fresh = User.objects.get(pk=user.pk)
    return {
        "role": str(role_of(fresh) or "none"),
        "active": fresh.is_active,
        "staff": fresh.is_staff,
        "superuser": fresh.is_superuser,
        "groups": sorted(fresh.groups.values_list("name", flat=True)),
    }


@transaction.atomic
def add_user(name: str, role: Role) -> tuple[User, str]:
    """Make an account without a password, and return the token of the link with which its owner chooses one.

    Raises AccountError: the name cannot be used.
    """
    user = User(username=name)
    user.set_unusable_password()
    try:
        user.full_clean()
    except ValidationError as error:
        raise AccountError(" ".join(error.messages)) from error
    user.save()
    user.groups.set([Group.objects.get(name=role)])
    note("add", f"user {name}", None, told_of(user))
    return user, link_for(user)


@transaction.atomic
def give_role(user: User, role: Role, by: AbstractBaseUser) -> None:
    """Put a user into the group of a role, and out of those of the others. Raises AccountError."""
    _refuse(user, by)
    if user.is_superuser:
        raise AccountError(_("%(name)s is a superuser: no role takes anything away.") % {"name": user})
    before = told_of(user)
    user.groups.remove(*Group.objects.filter(name__in=list(Role)))
    user.groups.add(Group.objects.get(name=role))
    note("give role", f"user {user}", before, told_of(user))


@transaction.atomic
def switch_user(user: User, by: AbstractBaseUser, *, on: bool) -> None:
    """Let a user in again, or no more: logins of now end, too. Raises AccountError."""
    _refuse(user, by)
    before = told_of(user)
    user.is_active = on
    user.save(update_fields=["is_active"])
    note("switch on" if on else "switch off", f"user {user}", before, told_of(user))


@transaction.atomic
def ask_new_password(user: User, by: AbstractBaseUser) -> str:
    """Take a user's password away, and return the token of a link to choose another. Raises AccountError.

    Logins of now end, since sessions hold a hash of the password.
    """
    _refuse(user, by)
    if comes_by_sign_on(user):
        raise AccountError(
            _("%(name)s logs in by single sign-on, and has no password here.") % {"name": user}
        )
    user.set_unusable_password()
    user.save(update_fields=["password"])
    note("ask for a new password", f"user {user}")
    return link_for(user)


def _refuse(user: User, by: AbstractBaseUser) -> None:
    """Raise AccountError unless somebody may change an account.

    Nobody changes his own: so the admin who acts stays one, and there is always one. Two who act on each
    other at the same time go one after the other, and the second one is looked at again.
    """
    Group.objects.select_for_update().get(name=Role.ADMIN)
    actor = User.objects.get(pk=by.pk)
    if user.pk == actor.pk:
        raise AccountError(_("Nobody changes the own account here: ask another admin."))
    if not may(actor, Right.ADMINISTER):
        raise AccountError(_("Your own role has just changed: you may not do this any more."))
    if user.is_superuser and not actor.is_superuser:
        raise AccountError(_("%(name)s is a superuser, whom only superusers change.") % {"name": user})
