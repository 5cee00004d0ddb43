"""`manage.py llama key`: keys for machines without a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.management.base import CommandError
from django.utils import timezone

from supervisor_app.common.until import until
from supervisor_app.traffic.families import families_of
from supervisor_app.traffic.issuing import (
    NoSuchKeyError,
    RotatedError,
    add_key,
    describe_keys,
    revoke_key,
    rotate_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NO_SUCH_KEY = 2
GRACE = "1d"
"""Time for which an old secret stays good unless somebody says otherwise."""
USAGE = "Use: llama key add NAME, llama key rotate NAME, llama key revoke NAME, or llama key list."


def key_command(
    action: str | None,
    name: str | None,
    *,
    until_said: str | None,
    endpoints: str | None,
    write: Callable[[str], object],
    remark: Callable[[str], object],
    may_read: bool,
    may_change: bool,
) -> None:
    """Do what was asked; a secret alone goes to `write`, for scripts to take. Raises CommandError.

    `endpoints`: families that a new key is limited to, as they were typed; None: it is not.
    """
    if endpoints is not None and action != "add":
        raise CommandError(
            "--endpoints is of key add. Those of a key that exists are set on its page.", returncode=2
        )
    match action, name:
        case "add", str():
            try:
                secret = add_key(
                    name, families=_families(endpoints), may_read=may_read, may_change=may_change
                )
            except ValueError as error:
                raise CommandError(f"No key {name!r}: {error}") from error
            remark("This is the only time that the key is shown. Limits are set on the page Keys.")
            write(secret)
        case "rotate", str():
            _rotate(name, until_said or GRACE, write, remark)
        case "revoke", str():
            try:
                revoke_key(name)
            except NoSuchKeyError as error:
                raise CommandError(str(error), returncode=NO_SUCH_KEY) from error
            write(f"{name}: switched off")
        case "list", None:
            lines = describe_keys()
            for line in lines:
                write(line)
            if not lines:
                remark("There is no API key yet: llama key add NAME makes one.")
        case _:
            raise CommandError(USAGE, returncode=NO_SUCH_KEY)


def _families(said: str | None) -> list[str]:
    try:
        return [] if said is None else families_of(said)
    except ValueError as error:
        raise CommandError(f"--endpoints: {error}", returncode=2) from error


def _rotate(name: str, said: str, write: Callable[[str], object], remark: Callable[[str], object]) -> None:
    try:
        end = until(said, timezone.now())
        secret = rotate_key(name, end)
    except NoSuchKeyError as error:
        raise CommandError(str(error), returncode=NO_SUCH_KEY) from error
    except ValueError as error:
        raise CommandError(f"--until: {error}", returncode=2) from error
    except RotatedError as error:
        raise CommandError(f"{name} was rotated by somebody else just now.") from error
    remark(
        "This is the only time that the new secret is shown. "
        f"The old one is good until {end:%Y-%m-%d %H:%M} UTC."
    )
    write(secret)
