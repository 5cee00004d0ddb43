"""A command line that somebody pastes, as the fields of a server's form. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from supervisor_app.core.settings import BY_FIELD
from supervisor_app.importing.command import read_command
from supervisor_app.importing.found import ImportMistakeError, shown_command

if TYPE_CHECKING:
    from supervisor_app.importing.found import Server


@dataclass(frozen=True, kw_only=True)
class Pasted:
    """Fields as one would type them, and remarks on what has no field."""

    fields: dict[str, str]
    remarks: list[str]


def pasted(text: str) -> Pasted:
    """Take a command line apart, as `llama import` does. Raises ImportMistakeError."""
    found = read_command(text)
    if not found.servers:
        raise ImportMistakeError(" ".join(found.remarks))
    (server,) = found.servers
    return Pasted(fields=_fields(server), remarks=[*found.remarks, *server.remarks, *_remarks(server)])


def _fields(server: Server) -> dict[str, str]:
    values = server.values
    fields = {field: str(value) for field, value in values.items() if field != "args"}
    default = str(BY_FIELD["model_path"].default) if server.fetches else ""
    return {"models_dir": "", "model_path": default, **fields, "args": shlex.join(values.get("args", []))}


def _remarks(server: Server) -> list[str]:
    remarks = []
    if args := server.values.get("args"):
        remarks.append(_("Kept as flags, as they are: %(flags)s") % {"flags": shown_command(args)})
    if server.environment:
        names = ", ".join(server.environment)
        remarks.append(
            _("Left out: %(names)s. Variables are set in llamaproxy.toml alone.") % {"names": names}
        )
    if server.binary:
        remarks.append(
            _("Left out: %(program)s. The program is set in llamaproxy.toml alone.")
            % {"program": server.binary}
        )
    return remarks
