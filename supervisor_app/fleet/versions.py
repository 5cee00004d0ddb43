"""Versions of a server's configuration: the only writer of `ConfigVersion`, and the way back."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from supervisor_app.common.redact import HIDDEN, redact_argv
from supervisor_app.core.settings import BY_FIELD
from supervisor_app.fleet.audit import differences
from supervisor_app.fleet.audit import note as note_act
from supervisor_app.fleet.models import Run, default_of
from supervisor_app.fleet.validators import validate_args_of_form
from supervisor_app.fleet.version_tables import ConfigVersion

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from supervisor_app.fleet.models import LlamaServer

MOST_VERSIONS = 50
"""Newest versions kept of each server."""
FIRST = "As it was before the first change that is kept"


class RestoreError(Exception):
    """The message says why a version is not brought back, in words for people."""


def configured(server: LlamaServer) -> dict[str, Any]:
    """Return all settings of a row as they are now, with their secrets."""
    return {field: deepcopy(getattr(server, field)) for field in BY_FIELD}


def shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as a version keeps them: without secrets."""
    kept = {**values, "args": list(redact_argv(values["args"]))}
    for field, setting in BY_FIELD.items():
        if setting.secret and kept[field]:
            kept[field] = HIDDEN
    return kept


def newest_number(server: LlamaServer) -> int:
    """Return the number of the version in force; 0: no change was kept yet."""
    newest = ConfigVersion.objects.filter(server=server).first()
    return newest.number if newest else 0


def way_back(server: LlamaServer, fixed: Collection[str]) -> int | None:
    """Return the newest version, but the one in force, that launched what reached ready last.

    Fields that a file sets (`fixed`) do not count: no version changes them.
    """
    good = Run.objects.filter(server=server).reached_ready().exclude(launch={}).first()
    if good is None:
        return None
    wanted = {field: value for field, value in good.launch.items() if field not in fixed}
    older = ConfigVersion.objects.filter(server=server)[1:]
    launches = (
        (row.number, {field: row.values.get(field, default_of(field)) for field in wanted}) for row in older
    )
    return next((number for number, launch in launches if launch == wanted), None)


@transaction.atomic
def note_version(
    server: LlamaServer, before: Mapping[str, Any] | None, author: str, note: str = ""
) -> ConfigVersion | None:
    """Keep the configuration of a row that was just saved; None if nothing has changed.

    `before`: its settings before the change, as `configured` returns them; None: the server is new.
    """
    after = configured(server)
    if before == after:
        return None
    number = newest_number(server)
    if number == 0 and before is not None:
        number = 1
        ConfigVersion.objects.create(server=server, number=1, note=FIRST, values=shown(before))
    version = ConfigVersion.objects.create(
        server=server, number=number + 1, author=author, note=note, values=shown(after)
    )
    ConfigVersion.objects.filter(server=server, number__lte=version.number - MOST_VERSIONS).delete()
    if before is None:
        note_act("add", f"server {server.name}", None, shown(after))
    else:
        changed = {field for field, value in after.items() if before[field] != value}
        note_act("configure", f"server {server.name}", *differences(shown(before), shown(after), changed))
    return version


@transaction.atomic
def restore(server: LlamaServer, number: int, author: str, fixed: Collection[str]) -> None:
    """Bring a version back as a new one. Fields that a file sets (`fixed`) stay. Raises RestoreError."""
    version = ConfigVersion.objects.filter(server=server, number=number).first()
    if version is None:
        raise RestoreError(
            f"There is no version {number} of {server.name}: the newest {MOST_VERSIONS} are kept."
        )
    before = configured(server)
    now = shown(before)
    back = {
        field: value
        for field, value in version.values.items()
        if field in now and field not in fixed and value != now[field]
    }
    secret = [field for field, value in back.items() if HIDDEN in str(value)]
    if secret:
        raise RestoreError(f"Version {number} held a secret, which is not kept. Set {secret[0]} by hand.")
    if not back:
        raise RestoreError(f"{server.name} has the configuration of version {number} already.")
    for field, value in back.items():
        setattr(server, field, value)
    try:
        validate_args_of_form(back.get("args", []))
        server.full_clean()
    except ValidationError as error:
        raise RestoreError(" ".join(error.messages)) from error
    try:
        with transaction.atomic():
            server.save(update_fields=list(back))
    except IntegrityError as error:
        raise RestoreError(f"Its port {server.port} is another server's now.") from error
    note_version(server, before, author, f"Version {number} again")
