"""Acts as the audit shows them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Touched:
    """A value that an act has set, changed or removed, in words. Empty: the act was without that side."""

    name: str
    before: str
    after: str


def touched_by(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Touched]:
    """Return the values of both sides by their names, in the order of the later one."""
    names = dict.fromkeys([*after, *before])
    return [
        Touched(
            name=name,
            before=_words(before.get(name)) if before else "",
            after=_words(after.get(name)) if after else "",
        )
        for name in names
    ]


def _words(value: Any) -> str:
    match value:
        case bool():
            return _("yes") if value else _("no")
        case list():
            words = " ".join(map(str, value))
        case dict():
            words = ", ".join(f"{name}: {_words(each)}" for name, each in value.items())
        case None:
            words = ""
        case _:
            words = str(value)
    return words or _("none")
