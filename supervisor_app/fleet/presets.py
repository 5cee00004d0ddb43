"""Presets of servers: their names, which nothing else may have, and their changes in words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from supervisor_app.core.command_line.argv import spelled_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FIELD = "presets"
ALIAS_FLAGS = ("-a", "--alias")
_LONGEST = 200
"""Characters of a preset in a line for people."""


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names under which clients may ask for one server, as people have chosen them."""

    server: str
    aliases: frozenset[str] = frozenset()
    presets: frozenset[str] = frozenset()

    @property
    def own(self) -> frozenset[str]:
        return self.aliases | {self.server}

    def field_of(self, name: str) -> str:
        """Return the field that says this name."""
        return FIELD if name in self.presets else "aliases" if name in self.aliases else "name"


def names_of(server: str, values: Mapping[str, Any]) -> Names:
    """Return the names of a server. `values`: of its fields."""
    aliases = aliases_among(values.get("aliases") or (), values.get("args") or ())
    return Names(server=server, aliases=frozenset(aliases), presets=frozenset(values.get(FIELD) or ()))


def aliases_among(aliases: Iterable[str], args: Iterable[Any]) -> list[str]:
    """Return the aliases that people gave a server, in its field and on its command line."""
    said = [value for flag, value in pairwise(spelled_out(map(str, args))) if flag in ALIAS_FLAGS]
    return [*aliases, *(name.strip() for value in said for name in value.split(",") if name.strip())]


def clashes(mine: Names, others: Iterable[Names]) -> Iterator[tuple[str, str]]:
    """Yield each name of mine that would lead to two things, with a sentence on that."""
    for name in sorted(mine.presets & mine.own):
        yield name, f"{name} is also a name of the server itself. Write another for the preset."
    for other in others:
        for name in sorted(mine.presets & other.own):
            yield name, f"{name} is also a name of the server {other.server}. Write another for the preset."
        for name in sorted(mine.presets & other.presets):
            yield name, f"{other.server} has a preset {name}, too. Write another for one of them."
        for name in sorted(mine.own & other.presets):
            yield name, f"{name} is a preset of {other.server}. Write another for one of them."


def shown_presets(presets: Mapping[str, Any]) -> dict[str, str]:
    """Return each preset for people, by name."""
    return {name: _shown(json.dumps(said, ensure_ascii=False)) for name, said in presets.items()}


def preset_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each preset that comes, goes or changes."""
    old, new = shown_presets(before), shown_presets(after)
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield f"{FIELD}.{name} {old.get(name, 'none')} → {new.get(name, 'none')}"


def preset_phrases(preset: Mapping[str, Any]) -> list[str]:
    """Return in words what a preset changes."""
    verbs = (("set", "sets {} to {}"), ("default", "fills in {} with {}"), ("cap", "caps {} at {}"))
    phrases = [f"removes {', '.join(preset['remove'])}"] if preset.get("remove") else []
    for table, verb in verbs:
        fields = preset.get(table, {}).items()
        phrases += [verb.format(key, _shown(json.dumps(value, ensure_ascii=False))) for key, value in fields]
    if prefix := preset.get("system_prefix"):
        phrases.append(f"begins the system prompt with “{_shown(prefix)}”")
    return phrases or ["changes nothing but the name"]


def _shown(text: str) -> str:
    return f"{text[:_LONGEST]}…" if len(text) > _LONGEST else text
