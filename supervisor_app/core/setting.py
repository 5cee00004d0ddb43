"""Setting of a server as it is declared: its key, type, bounds and texts, and what is derived from these."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

LARGEST = 2**31 - 1
"""SQLite would take more; PostgreSQL does not, nor does a date so many milliseconds from now."""
_LINK = re.compile(r"\[([^]]+)\]\([^)]*\)")
UNITS = {"ms": "milliseconds", "seconds": "seconds", "minutes": "minutes", "mb": "megabytes"}
"""The last word of a key -> the unit of its value."""


class Kind(Enum):
    """Type of a value, in Python and in words."""

    NUMBER = int, "a whole number"
    SWITCH = bool, "true or false"
    TEXT = str, "text"
    LIST = list, "a list of strings"
    TABLE = dict, "a table"

    def __init__(self, python: type, words: str) -> None:
        self.python = python
        self.words = words

    def fits(self, value: Any) -> bool:
        """Tell whether a value of the config file has this type. In Python `True` is an int, too."""
        return isinstance(value, self.python) and (self is Kind.SWITCH or not isinstance(value, bool))


class Section(Enum):
    """Section of the configuration that a setting belongs to, by its title in a form."""

    LAUNCH = "What to run"
    GATEWAY = "Gateway"
    RESTART = "After a crash"
    HEALTH = "Health"
    MEMORY = "Room in memory"
    NODE = ""
    """All servers of a node. No row has these settings, so no form can change them: they choose programs and
    whom to trust."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Declaration of one setting. Texts are Markdown, in which `code` has its marks."""

    key: str
    """Name in the config file. Its last word tells the unit."""
    section: Section
    stored_as: str = ""
    """Column of `LlamaServer`, if its name is not the key."""
    fed_as: str = ""
    """Attribute of the policy, if its name is not the key."""
    kind: Kind = Kind.NUMBER
    default: Any
    least: int = 0
    most: int = LARGEST
    longest: int | None = None
    """Length of a text."""
    required: bool = False
    """A text or list must not be empty."""
    secret: bool = False
    """The value is repeated in no message and in no history."""
    help: str
    """A sentence or two, which fit into a row of the table."""
    zero: str = ""
    """Meaning of 0, where it is not an amount."""
    note: str = ""
    """Details for which a row has no room."""

    @property
    def field(self) -> str:
        return self.stored_as or self.key

    @property
    def attribute(self) -> str:
        return self.fed_as or self.key

    @property
    def unit(self) -> str:
        return UNITS.get(self.key.rpartition("_")[2], "")

    @property
    def summary(self) -> str:
        """Sentences with the unit, the bounds and the meaning of 0."""
        bounds = f"at least {self.least}" if self.least > 1 else ""
        if self.most < LARGEST:
            bounds = f"{self.least} to {self.most}"
        measure = ", ".join(filter(None, [self.unit, bounds])).capitalize()
        sentences = [self.help, measure and f"{measure}.", self.zero and f"0: {self.zero}."]
        return " ".join(filter(None, sentences))

    @property
    def form_help(self) -> str:
        """Everything that is said of the setting, as plain text."""
        return _LINK.sub(r"\1", f"{self.summary} {self.note}".strip().replace("`", ""))

    @property
    def row(self) -> str:
        """Row of the table in the documents: key, default, meaning."""
        return f"| `{self.key}` | `{json.dumps(self.default)}` | {self.summary} |"

    @property
    def item(self) -> str:
        """Item of the list below the table; empty without a note."""
        return self.note and f"- `{self.key}`: {self.note}"
