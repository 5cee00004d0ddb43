"""The field for a command line: what was pasted fills the form in which it lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from supervisor_app.common.redact import redact_argv
from supervisor_app.importing.found import ImportMistakeError
from supervisor_app.pages.presenters.config import PLAIN_FIELDS
from supervisor_app.pages.presenters.pasted import pasted

if TYPE_CHECKING:
    from collections.abc import Collection

    from django.http import HttpRequest, QueryDict

FIELD = "command"


@dataclass(frozen=True, kw_only=True)
class Typed:
    """Data of a form, once a pasted command line has filled it."""

    data: QueryDict
    context: dict[str, Any]
    """Context of `supervisor/_paste.html`."""
    is_mistaken: bool = False


def typed_in(request: HttpRequest, fixed: Collection[str] = ()) -> Typed:
    """Fill the form with the command line, if that was asked for. `fixed`: fields that a file sets."""
    data, command = request.POST.copy(), request.POST.get(FIELD, "")
    if request.POST.get("act") != "paste":
        return Typed(data=data, context={})
    try:
        found = pasted(command)
    except ImportMistakeError as error:
        words = command.split()
        kept = command if list(redact_argv(words)) == words else ""  # no page repeats a secret
        return Typed(data=data, context={"command_mistake": str(error), "pasted": kept}, is_mistaken=True)
    for field, value in found.fields.items():
        data[field] = value
    said = [field for field, value in found.fields.items() if value]
    settings = dict.fromkeys("args" if field in PLAIN_FIELDS else field for field in said)
    of_file = ", ".join(field for field in settings if field in fixed)
    remarks = [_("Left out: %(fields)s. A file sets that.") % {"fields": of_file}] if of_file else []
    return Typed(data=data, context={"is_pasted": True, "remarks": [*found.remarks, *remarks]})
