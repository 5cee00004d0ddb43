"""Settings of a server as its page of configuration shows them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_lazy as _lazy

from supervisor_app.core.command_line.plain import PLAIN
from supervisor_app.core.setting import Section
from supervisor_app.core.settings import BY_FIELD, settings_of
from supervisor_app.fleet.file_servers import shown_value

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

PLAIN_FIELDS = tuple(flag.field for flag in PLAIN)
"""Fields that stand for flags."""
MATTER = ("model_path", "engine", *PLAIN_FIELDS, "args", "aliases", "idle_stop_seconds")
"""Settings in front; all others are behind "more", in the order of their declaration."""
LABELS = {
    "model_path": _lazy("Model"),
    "engine": _lazy("Engine"),
    "args": _lazy("More flags of llama-server"),
    "aliases": _lazy("More names for clients"),
    "idle_stop_seconds": _lazy("Stop when nobody asks for so many seconds"),
}
RESTARTING = frozenset(setting.field for setting in settings_of(Section.LAUNCH))
"""Settings of which a change needs another process."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A setting that differs, in words without secrets."""

    field: str
    before: str
    after: str

    @property
    def restarts(self) -> bool:
        return self.field in RESTARTING


def changes_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return what differs, in the order of the declarations; a setting that one side lacks is left out."""
    return [
        Change(field=field, before=_words(field, before[field]), after=_words(field, after[field]))
        for field in BY_FIELD
        if field in before and field in after and before[field] != after[field]
    ]


def _words(field: str, value: Any) -> str:
    return shown_value(field, value) or "none"


def sections(front: Collection[str] = MATTER) -> list[tuple[str, list[str]]]:
    """Return the titles and fields behind "more"."""
    found = [
        (section.value, [each.field for each in settings_of(section) if each.field not in front])
        for section in Section
        if section is not Section.NODE
    ]
    return [(title, fields) for title, fields in found if fields]
