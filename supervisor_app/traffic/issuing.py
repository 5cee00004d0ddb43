"""API keys made, lent and withdrawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from supervisor_app.fleet.audit import note
from supervisor_app.gateway.access.keys import digest_of, new_key, shown_part
from supervisor_app.gateway.llama.operations import Scope
from supervisor_app.traffic.models import ApiKey

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet


class NoSuchKeyError(Exception):
    """A key of that name does not exist; the message lists the names that there are."""


def issue(key: ApiKey) -> str:
    """Give a key that is not saved yet its secret, which is kept nowhere else. The caller saves the row."""
    secret = new_key()
    key.prefix, key.digest = shown_part(secret), digest_of(secret).hex()
    return secret


@transaction.atomic
def add_key(name: str, *, may_read: bool = False, may_change: bool = False) -> str:
    """Make a key without limits, and return its secret. Raises ValueError: the name cannot be used."""
    key = ApiKey(name=name, may_read=may_read, may_change=may_change)
    secret = issue(key)
    try:
        key.full_clean()
    except ValidationError as error:
        raise ValueError(" ".join(error.messages)) from error
    key.save(force_insert=True)
    note("add", f"key {name}", None, {"begins": key.prefix, "may_read": may_read, "may_change": may_change})
    return secret


@transaction.atomic
def lend(name: str, until: datetime) -> str:
    """Give the key of that name, which is made if there is none, a new secret that is good until then."""
    key = ApiKey.objects.filter(name=name).first() or ApiKey(name=name)
    key.enabled, key.expires_at = True, until
    secret = issue(key)
    key.save()
    note("lend", f"key {name}", None, {"begins": key.prefix, "expires_at": until})
    return secret


@transaction.atomic
def revoke_key(name: str) -> None:
    """Switch a key off: deleting the last one would open the gateway. Raises NoSuchKeyError."""
    keys = ApiKey.objects.filter(name=name)
    if not keys.exists():
        known = ", ".join(ApiKey.objects.values_list("name", flat=True)) or "none yet"
        raise NoSuchKeyError(f"There is no API key {name!r}. Keys: {known}.")
    switch(keys, on=False)


@transaction.atomic
def switch(keys: QuerySet[ApiKey], *, on: bool) -> int:
    """Switch keys on or off; return their number."""
    were = list(keys.values_list("name", "enabled"))
    count = keys.update(enabled=on)
    for name, was in were:
        note("switch on" if on else "switch off", f"key {name}", {"enabled": was}, {"enabled": on})
    return count


def describe_keys() -> list[str]:
    """Describe each key in a line, without its secret."""
    return [
        f"{key.name}: {key.prefix}…, {_state(key)}, {_use(key)}{_rights(key)}" for key in ApiKey.objects.all()
    ]


def _rights(key: ApiKey) -> str:
    """Name the rights of a key beside asking models."""
    return "".join(
        f", may {scope}" for scope in Scope if scope in key.scopes and scope is not Scope.INFERENCE
    )


def _state(key: ApiKey) -> str:
    if not key.enabled:
        return "switched off"
    if key.expires_at is None:
        return "in force"
    word = "expired" if key.expires_at <= timezone.now() else "in force until"
    return f"{word} {key.expires_at:%Y-%m-%d %H:%M}"


def _use(key: ApiKey) -> str:
    return f"last used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used"
