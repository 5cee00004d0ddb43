"""API keys made, lent and withdrawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from supervisor_app.fleet.audit import note
from supervisor_app.fleet.commands import nudge_gateways
from supervisor_app.gateway.access.keys import digest_of, new_key, shown_part
from supervisor_app.gateway.llama.operations import Scope
from supervisor_app.traffic.models import ApiKey

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from django.db.models import QuerySet


class NoSuchKeyError(Exception):
    """A key of that name does not exist; the message lists the names that there are."""


class RotatedError(Exception):
    """Somebody else has just given the key another secret."""


def issue(key: ApiKey) -> str:
    """Give a key that is not saved yet its secret, which is kept nowhere else. The caller saves the row."""
    secret = new_key()
    key.prefix, key.digest = shown_part(secret), digest_of(secret).hex()
    return secret


@transaction.atomic
def make(key: ApiKey, said: Collection[str]) -> str:
    """Save a new key, and return its secret. `said`: the fields that the audit names."""
    secret = issue(key)
    key.save(force_insert=True)
    note(
        "add", f"key {key.name}", None, {"begins": key.prefix, **{name: getattr(key, name) for name in said}}
    )
    _tell()
    return secret


def add_key(
    name: str, *, families: Sequence[str] = (), may_read: bool = False, may_change: bool = False
) -> str:
    """Make a key, and return its secret. Raises ValueError: the name cannot be used.

    `families`: endpoints that it is limited to; none: it is not.
    """
    key = ApiKey(name=name, allowed_families=list(families), may_read=may_read, may_change=may_change)
    issue(key)
    try:
        key.full_clean()
    except ValidationError as error:
        raise ValueError(" ".join(error.messages)) from error
    return make(key, ["may_read", "may_change", *(["allowed_families"] if families else [])])


@transaction.atomic
def rotate(key: ApiKey, until: datetime) -> str:
    """Give a key a new secret, and return it; the old one is good until then, the one before no more.

    Raises RotatedError: the key has another secret than this row says.
    """
    was, old = key.prefix, key.digest
    secret = issue(key)
    key.old_digest, key.old_until = old, until
    changed = ApiKey.objects.filter(pk=key.pk, digest=old).update(
        prefix=key.prefix, digest=key.digest, old_digest=old, old_until=until
    )
    if not changed:
        raise RotatedError
    note("rotate", f"key {key.name}", {"begins": was}, {"begins": key.prefix, "old_until": until})
    _tell()
    return secret


def rotate_key(name: str, until: datetime) -> str:
    """`rotate` the key of that name. Raises NoSuchKeyError and RotatedError."""
    return rotate(_named(name).get(), until)


@transaction.atomic
def configure(key: ApiKey, before: Mapping[str, Any], changed: Collection[str]) -> None:
    """Write down what a form has changed of a key. `before`: values by field, as they were."""
    after = {name: value for name in changed if (value := getattr(key, name)) != before.get(name)}
    if not after:
        return
    key.save(update_fields=list(after))
    note("configure", f"key {key.name}", {name: before.get(name) for name in after}, after)
    _tell()


@transaction.atomic
def delete_key(key: ApiKey) -> None:
    """Delete a key. The records and sums of its requests keep its name."""
    note("delete", f"key {key.name}", {"begins": key.prefix})
    key.delete()
    _tell()


@transaction.atomic
def lend(name: str, until: datetime) -> str:
    """Give the key of that name, which is made if there is none, a new secret that is good until then."""
    key = ApiKey.objects.filter(name=name).first() or ApiKey(name=name)
    key.enabled, key.expires_at = True, until
    secret = issue(key)
    key.save()
    note("lend", f"key {name}", None, {"begins": key.prefix, "expires_at": until})
    _tell()
    return secret


@transaction.atomic
def revoke_key(name: str) -> None:
    """Switch a key off: deleting the last one would open the gateway. Raises NoSuchKeyError."""
    switch(_named(name), on=False)


def _named(name: str) -> QuerySet[ApiKey]:
    keys = ApiKey.objects.filter(name=name)
    if not keys.exists():
        known = ", ".join(ApiKey.objects.values_list("name", flat=True)) or "none yet"
        raise NoSuchKeyError(f"There is no API key {name!r}. Keys: {known}.")
    return keys


@transaction.atomic
def switch(keys: QuerySet[ApiKey], *, on: bool) -> int:
    """Switch keys on or off; return their number."""
    were = list(keys.values_list("name", "enabled"))
    count = keys.update(enabled=on)
    for name, was in were:
        note("switch on" if on else "switch off", f"key {name}", {"enabled": was}, {"enabled": on})
    _tell()
    return count


def _tell() -> None:
    """Have the gateways read their keys as soon as this is saved; they do each second anyway."""
    transaction.on_commit(nudge_gateways)


def describe_keys() -> list[str]:
    """Describe each key in a line, without its secret."""
    return [
        f"{key.name}: {key.prefix}…, {_state(key)}, {_use(key)}{_rights(key)}" for key in ApiKey.objects.all()
    ]


def _rights(key: ApiKey) -> str:
    """Name the endpoints that a key is limited to, and its rights beside asking models."""
    only = f", only {' and '.join(key.allowed_families)}" if key.allowed_families else ""
    more = (scope for scope in Scope if scope in key.scopes and scope is not Scope.INFERENCE)
    return only + "".join(f", may {scope}" for scope in more)


def _state(key: ApiKey) -> str:
    if not key.enabled:
        return "switched off"
    if key.expires_at is None:
        return f"in force{_old(key)}"
    word = "expired" if key.expires_at <= timezone.now() else "in force until"
    return f"{word} {key.expires_at:%Y-%m-%d %H:%M}{_old(key)}"


def _old(key: ApiKey) -> str:
    is_good = key.old_until is not None and key.old_until > timezone.now()
    return f", its old secret until {key.old_until:%Y-%m-%d %H:%M}" if is_good else ""


def _use(key: ApiKey) -> str:
    return f"last used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used"
