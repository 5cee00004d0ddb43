"""Rights of people: the one place that says what a role may, and what a view asks for.

A role is a group of Django's: `viewer`, `operator`, `admin`. Superusers may everything. A staff account in
none of the three groups may what an admin may, as all staff could before there were roles. A view declares
its right by the decorator that lets people in (`pages.door.page` and `act`, `api.endpoint`);
`tests/integration/web/test_rights.py` asks each address as each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
    from django.http import HttpRequest

    Somebody = AbstractBaseUser | AnonymousUser

READS, ACTS = ("GET", "HEAD"), ("POST",)
"""Methods of a view that shows, and of one that changes something."""


class Right(StrEnum):
    """A thing to be allowed, from what everybody may to what few may."""

    ENTER = "enter"
    """Ways in and probes: strangers, too."""
    OWN = "own"
    """Change one's own password: whoever is logged in."""
    READ = "read"
    """States of servers: strangers, too, while the status is public."""
    LOOK = "look"
    """Logs, requests, history."""
    OPERATE = "operate"
    """Start, stop, restart, roll back, cancel, resolve, mute, watch, download, ask models."""
    ADMINISTER = "administer"
    """Configure, delete; keys, users, audit, what was said in requests; Django's admin."""


class Role(StrEnum):
    """A group of Django's that llamaproxy makes."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rights(self) -> frozenset[Right]:
        return RIGHTS[self]


_OF_VIEWERS = frozenset({Right.ENTER, Right.OWN, Right.READ, Right.LOOK})
RIGHTS = {
    Role.VIEWER: _OF_VIEWERS,
    Role.OPERATOR: _OF_VIEWERS | {Right.OPERATE},
    Role.ADMIN: frozenset(Right),
}


def role_by(groups: Collection[str], *, is_active: bool, is_staff: bool, is_superuser: bool) -> Role | None:
    """Return the highest role of an account; None: it has none."""
    if not is_active:
        return None
    if is_superuser:
        return Role.ADMIN
    highest = next((role for role in reversed(Role) if role in groups), None)
    return highest or (Role.ADMIN if is_staff else None)


def role_of(user: Somebody) -> Role | None:
    """Return the role of a user. One query, once for each user that was read; none for a superuser."""
    person: Any = user
    has_to_ask = person.is_active and not person.is_superuser
    return role_by(
        _groups(person) if has_to_ask else (),
        is_active=person.is_active,
        is_staff=person.is_staff,
        is_superuser=person.is_superuser,
    )


def _groups(person: Any) -> Collection[str]:
    if not hasattr(person, "names_of_groups"):
        person.names_of_groups = frozenset(person.groups.values_list("name", flat=True))
    names: Collection[str] = person.names_of_groups
    return names


def may(user: Somebody, right: Right) -> bool:
    """Tell whether a user, or a stranger, has a right."""
    if right is Right.OWN:
        return user.is_active and user.is_authenticated
    return role_may(None, right) or role_may(role_of(user), right)


def role_may(role: Role | None, right: Right) -> bool:
    """Tell whether those of a role have a right; None: strangers."""
    if right is Right.ENTER or (right is Right.READ and settings.LLAMAPROXY_PUBLIC_STATUS):
        return True
    return role is not None and right in role.rights


def why_not(user: Somebody, right: Right) -> str:
    """Say to somebody without a right what is missing, and whom to ask."""
    if not user.is_authenticated:
        return _("This needs a login.")
    role, needed = role_of(user), next(each for each in Role if right in each.rights)
    match role:
        case None:
            return _("Your account has no role. Ask an admin for %(role)s.") % {"role": needed}
        case Role.VIEWER:
            said = _("Your role viewer may look, not act. Ask an admin for %(role)s.")
        case _:
            said = _("Your role operator may not change what is set up. Ask an admin for %(role)s.")
    return said % {"role": needed}


def refuse_without(user: Somebody, right: Right) -> None:
    """Raise PermissionDenied, with a sentence for people, unless a user has a right."""
    if not may(user, right):
        raise PermissionDenied(why_not(user, right))


@dataclass(frozen=True)
class Rights:
    """The rights of a user for templates: `may.operate`."""

    user: Somebody

    def __getattr__(self, name: str) -> bool:
        return may(self.user, _right(name))


@dataclass(frozen=True)
class RoleRights:
    """The rights of all of a role for templates that are rendered for them together."""

    role: Role | None

    def __getattr__(self, name: str) -> bool:
        return role_may(self.role, _right(name))


def _right(name: str) -> Right:
    try:
        return Right(name)
    except ValueError:
        raise AttributeError(name) from None


def in_templates(request: HttpRequest) -> dict[str, object]:
    """Give templates the rights of their reader as `may`, and the role as `role`."""
    from django.contrib.auth.models import AnonymousUser  # its models are there after the apps alone

    user: Somebody = getattr(request, "user", None) or AnonymousUser()  # none: refused before it was read
    return {"may": Rights(user), "role": lambda: role_of(user)}


# --- What a view asks for ---


@dataclass(frozen=True, kw_only=True)
class Declared:
    """The right that a view asks for, and the methods that it takes."""

    right: Right
    methods: Sequence[str]


View = TypeVar("View", bound="Callable[..., Any]")


def declare(right: Right, methods: Sequence[str] = READS) -> Callable[[View], View]:
    """Write on a view which right it asks for; alone only where there is nothing to check."""

    def decorate(view: View) -> View:
        vars(view)["declared"] = Declared(right=right, methods=tuple(methods))
        return view

    return decorate


def declared_by(view: Callable[..., Any]) -> Declared | None:
    """Return what a view has declared; None: nothing."""
    found = vars(view).get("declared")
    return found if isinstance(found, Declared) else None
