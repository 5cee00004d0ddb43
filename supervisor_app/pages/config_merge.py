"""A form that began with an older version: what somebody typed, on top of what another has changed."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from supervisor_app.core.settings import BY_FIELD
from supervisor_app.fleet.version_tables import ConfigVersion
from supervisor_app.pages.config_form import ConfigForm

if TYPE_CHECKING:
    from django.http import QueryDict

    from supervisor_app.fleet.models import LlamaServer


def merged(typed: QueryDict, server: LlamaServer, based_on: str, fixed: set[str]) -> QueryDict:
    """Return what was typed, where fields that were left alone have the values of `server` as it is now."""
    began = _as_it_was(server, based_on)
    if began is None:
        return typed
    touched = ConfigForm(typed, instance=began, fixed=fixed).changed_data
    now, data = ConfigForm(instance=server, fixed=fixed), typed.copy()
    for name in now.fields.keys() - set(touched):
        value = now[name].value()
        if value is False:
            data.pop(name, None)  # as a browser leaves a box out that is not ticked
        else:
            data[name] = "on" if value is True else "" if value is None else str(value)
    return data


def _as_it_was(server: LlamaServer, number: str) -> LlamaServer | None:
    """Return a server in an older version; None: that is not kept. The first one kept is of before all."""
    if not number.isdecimal():
        return None
    version = ConfigVersion.objects.filter(server=server, number=max(1, int(number))).first()
    if version is None:
        return None
    was = copy(server)
    for field, value in version.values.items():
        if field in BY_FIELD and not BY_FIELD[field].secret:
            setattr(was, field, value)
    return was
