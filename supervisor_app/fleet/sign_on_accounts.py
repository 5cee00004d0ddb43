"""Accounts of people who come by single sign-on: found by issuer and subject, never by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.utils.translation import gettext as _

from supervisor_app.fleet.accounts import told_of
from supervisor_app.fleet.audit import acting_as, note
from supervisor_app.fleet.sign_on_tables import SignOnAccount
from supervisor_app.web.rights import Role
from supervisor_app.web.sign_on import SINGLE_SIGN_ON, SignOnRefusedError, name_from, role_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.web.sign_on import SignOn


def admit(claims: Mapping[str, Any], sign_on: SignOn) -> User:
    """Return the account of a person, made at the first login, with the role that the claims give now.

    Raises SignOnRefusedError: no role, the account is switched off, or the name is somebody else's. A role
    that the claims no longer give is taken away all the same.
    """
    with acting_as(SINGLE_SIGN_ON):
        user = _account_of(claims, sign_on)
    if user is None:
        raise SignOnRefusedError(_("None of your groups has a role here. Ask an admin."))
    if not user.is_active:
        raise SignOnRefusedError(_("Your account is switched off. Ask an admin."))
    return user


@transaction.atomic
def _account_of(claims: Mapping[str, Any], sign_on: SignOn) -> User | None:
    """Set the role of a person's account; None: there is no role, so neither is there a new account."""
    Group.objects.select_for_update().get(name=Role.ADMIN)  # two first logins go one after the other
    role, subject = role_from(claims, sign_on), str(claims["sub"])
    known = (
        SignOnAccount.objects.select_related("user").filter(issuer=sign_on.issuer, subject=subject).first()
    )
    if known is not None:
        _set_role(known.user, role)
        return known.user if role is not None else None
    if role is None:
        return None
    user = _new_account(name_from(claims))
    SignOnAccount.objects.create(user=user, issuer=sign_on.issuer, subject=subject)
    user.groups.set([Group.objects.get(name=role)])
    note("add", f"user {user}", None, told_of(user))
    return user


def _new_account(name: str) -> User:
    if User.objects.filter(username__iexact=name).exists():
        raise SignOnRefusedError(
            _("There is another account named %(name)s. Ask an admin to rename or delete it.")
            % {"name": name}
        )
    return User.objects.create_user(name)


def _set_role(user: User, role: Role | None) -> None:
    """Put an account into the group of a role, out of all else that would give one. Superusers stay so."""
    before = told_of(user)
    user.groups.remove(*Group.objects.filter(name__in=[each for each in Role if each is not role]))
    if role is not None:
        user.groups.add(Group.objects.get(name=role))
    if user.is_staff and not user.is_superuser:
        user.is_staff = False
        user.save(update_fields=["is_staff"])
    after = told_of(user)
    if after != before:
        note("give role", f"user {user}", before, after)
