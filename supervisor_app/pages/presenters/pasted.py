"""A command line that somebody pastes, as the fields of a server's form. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from supervisor_app.core.command_line.plain import read_plain
from supervisor_app.core.settings import BY_FIELD
from supervisor_app.importing.command import read_command
from supervisor_app.importing.found import ImportMistakeError, shown_command
from supervisor_app.pages.presenters.config import PLAIN_FIELDS

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
    plain, rest = read_plain(values.get("args", []))
    filled = {"models_dir": "", "model_path": default, **dict.fromkeys(PLAIN_FIELDS, ""), **fields}
    return {**filled, **plain, "args": shlex.join(rest)}


def _remarks(server: Server) -> list[str]:
    remarks = []
    _fields_said, rest = read_plain(server.values.get("args", []))
    if rest:
        remarks.append(_("Kept as flags, as they are: %(flags)s") % {"flags": shown_command(rest)})
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
