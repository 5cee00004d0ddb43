"""Single sign-on by OpenID Connect, as it is set up, and what a provider's claims mean here. Pure.

Claims are those of OpenID Connect Core 1.0, sections 2 and 5.1
(https://openid.net/specs/openid-connect-core-1_0.html#StandardClaims).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from supervisor_app.web.rights import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

SINGLE_SIGN_ON = "single sign-on"
"""The word for it: on the button, in the audit as the actor, to the throttle of logins."""
NO_ROLE = "none"
LONGEST_NAME = 150
"""Characters of a user name in Django."""


class SignOnError(Exception):
    """A login that came to nothing. Its message is for the person who tried."""


class SignOnRefusedError(SignOnError):
    """A person whom the provider knows and who may not enter here."""


class ProviderAwayError(SignOnError):
    """A provider that does not answer, or not as one."""


@dataclass(frozen=True, kw_only=True)
class SignOn:
    """A provider of logins, and the roles of those who come from there."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    roles: Mapping[str, Role]
    """The role of each group that has one."""
    others: Role | None = None
    """The role of people without such a group; None: they do not get in."""
    groups_claim: str = "groups"
    scopes: str = "openid profile email"
    label: str = SINGLE_SIGN_ON


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A login that has begun: what its answer is held against, and where the person wanted to go."""

    state: str
    nonce: str
    verifier: str
    then: str


# --- How it is set up ---


def sign_on_of(
    *,
    issuer: str,
    client_id: str,
    client_secret: str,
    roles: str,
    others: str,
    groups_claim: str,
    scopes: str,
    label: str,
    is_installed: bool,
) -> SignOn | None:
    """Read the variables LLAMAPROXY_SSO_…; empty: not set. None: single sign-on is off, none of them is set.

    Raises ImproperlyConfigured, which names the variable.
    """
    needed = {"ISSUER": issuer, "CLIENT_ID": client_id, "CLIENT_SECRET": client_secret}
    if not any((*needed.values(), roles, others, groups_claim, scopes, label)):
        return None
    for name, value in needed.items():
        if not value:
            raise ImproperlyConfigured(f"LLAMAPROXY_SSO_{name} is not set: single sign-on needs it.")
    if not is_sound_address(issuer):
        raise ImproperlyConfigured(
            f"LLAMAPROXY_SSO_ISSUER={issuer!r} is no address of a provider. Use one such as "
            "https://id.example.org/realms/main; http:// will do for this machine alone."
        )
    by_group, of_others = _roles(roles), _role_of_others(others)
    if not by_group and of_others is None:
        raise ImproperlyConfigured(
            "LLAMAPROXY_SSO_ROLES is not set: nobody could log in. Say which group has which role, such as "
            "llama-admins=admin,staff=viewer, or what all may with LLAMAPROXY_SSO_OTHERS=viewer."
        )
    if scopes and "openid" not in scopes.split():
        raise ImproperlyConfigured(
            f"LLAMAPROXY_SSO_SCOPES={scopes!r} lacks openid, without which it is no login."
        )
    if not is_installed:
        raise ImproperlyConfigured(
            "LLAMAPROXY_SSO_ISSUER is set, and single sign-on is not installed: "
            "pip install 'llamaproxy[sso]'."
        )
    return SignOn(
        issuer=issuer,
        client_id=client_id,
        client_secret=client_secret,
        roles=by_group,
        others=of_others,
        groups_claim=groups_claim or SignOn.groups_claim,
        scopes=scopes or SignOn.scopes,
        label=label or SignOn.label,
    )


def _roles(text: str) -> dict[str, Role]:
    pairs = [item.strip().rpartition("=") for item in text.split(",") if item.strip()]
    for group, _, role in pairs:
        if not group.strip() or role.strip() not in list(Role):
            raise ImproperlyConfigured(
                f"LLAMAPROXY_SSO_ROLES={text!r} cannot be understood. Use group=role, separated by commas; "
                f"a role is {', '.join(Role)}."
            )
    return {group.strip(): Role(role.strip()) for group, _, role in pairs}


def _role_of_others(text: str) -> Role | None:
    if text in ("", NO_ROLE):
        return None
    if text not in list(Role):
        said = ", ".join((NO_ROLE, *Role))
        raise ImproperlyConfigured(f"LLAMAPROXY_SSO_OTHERS={text!r} is no role. Use one of {said}.")
    return Role(text)


def is_sound_address(url: str) -> bool:
    """Tell whether nobody on the way can speak for an address: it has TLS, or is on this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    is_here = host in ("localhost", "127.0.0.1", "::1")
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_here))


# --- What a provider says of a person ---


def role_from(claims: Mapping[str, Any], sign_on: SignOn) -> Role | None:
    """Return the highest role of a person's groups, else that of others; None: no way in."""
    roles = {sign_on.roles.get(group) for group in groups_in(claims, sign_on.groups_claim)}
    return next((role for role in reversed(Role) if role in roles), sign_on.others)


def groups_in(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """Return the groups in a claim: a list or one text. `realm_access.roles` is looked for in `realm_access`.

    The whole name comes first: some providers have claims whose names are addresses.
    """
    found: Any = claims.get(name)
    if found is None:
        found = claims
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    listed = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    return frozenset(group for group in listed if isinstance(group, str))


def name_from(claims: Mapping[str, Any]) -> str:
    """Return the name for a new account: the preferred one, else a verified address, else the subject.

    For people to read alone: an account is found again by issuer and subject, which never change.
    """
    email = claims.get("email") if claims.get("email_verified") is True else None
    said = next(
        name
        for name in (claims.get("preferred_username"), email, str(claims["sub"]))
        if isinstance(name, str) and name
    )
    return re.sub(r"[^\w.@+-]+", "-", unicodedata.normalize("NFKC", said))[:LONGEST_NAME]
