"""Filters of llama-swap, which change requests: presets here. Pure."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from supervisor_app.importing.found import ImportMistakeError, remark
from supervisor_app.importing.macros import expand

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor_app.importing.found import Server
    from supervisor_app.importing.yaml_text import KeyPath, Yaml

UNTOUCHED = frozenset(
    ("model", "stream", "stream_options", "messages", "prompt", "input", "system", "instructions")
)
"""Fields of a request that no preset changes. llama-swap itself keeps `model` alone."""
STRIP, SET, BY_ID = "stripParams", "setParams", "setParamsByID"
KNOWN = (STRIP, SET, BY_ID)
Preset = dict[str, Any]


def read_filters(server: Server, yaml: Yaml, at: KeyPath, macros: Mapping[str, Any]) -> None:
    """Make presets of a model's filters; those of all requests take its names. Raises ImportMistakeError."""
    at = (*at, "filters")
    filters = yaml.mapping(*at)
    said = filters.get(STRIP) or ""
    names = said if isinstance(said, list) else str(said).split(",")
    stripped = [str(name).strip() for name in names]
    of_all: Preset = {"remove": _changeable(server, yaml, (*at, STRIP), filter(None, stripped)), "set": {}}
    _take(of_all, server, yaml, (*at, SET))
    by_name = {}
    for key in yaml.mapping(*at, BY_ID):
        name = expand(yaml.where(*at, BY_ID, key), key, macros)
        by_name[name] = {"remove": [*of_all["remove"]], "set": {**of_all["set"]}}
        _take(by_name[name], server, yaml, (*at, BY_ID, key))
    if of_all["remove"] or of_all["set"]:
        by_name = dict.fromkeys((server.name, *server.values.get("aliases", ())), of_all) | by_name
    presets = {name: {key: said for key, said in preset.items() if said} for name, preset in by_name.items()}
    _name(server, {name: preset for name, preset in presets.items() if preset})


def _take(preset: Preset, server: Server, yaml: Yaml, at: KeyPath) -> None:
    """Take fields that are set. One that is null is as good as left out."""
    said = yaml.mapping(*at)
    for name in _changeable(server, yaml, at, said):
        if said[name] is None:
            preset["remove"].append(name)
            preset["set"].pop(name, None)
        else:
            preset["set"][name] = _json(yaml.where(*at, name), said[name])


def _changeable(server: Server, yaml: Yaml, at: KeyPath, names: Iterable[str]) -> list[str]:
    """Return the names without those that no preset changes, which are remarked on."""
    kept = []
    for name in names:
        if name in UNTOUCHED:
            text = remark(yaml.line(*at), ".".join(at[2:]), name, "no preset changes this field.")
            server.remarks.append(text)
        else:
            kept.append(name)
    return kept


def _json(where: str, value: Any) -> Any:
    """Return a value as JSON has it, without null, which TOML has not. Raises ImportMistakeError."""
    try:
        found = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ImportMistakeError(f"{where}: {value} is no JSON. Write it in quotes, as text.") from error
    if _has_null(found):
        raise ImportMistakeError(f"{where}: there is no null in TOML. Leave that value out.")
    return found


def _has_null(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(map(_has_null, inner))


def _name(server: Server, presets: dict[str, Preset]) -> None:
    """Give the server its presets, and take their names from it: a name leads to one thing."""
    if not presets:
        return
    values = server.values
    values["presets"] = presets
    values["aliases"] = [name for name in values.get("aliases", ()) if name not in presets]
    values["args"] = _without_alias(values.get("args", ()), presets)
    for key in ("aliases", "args"):
        if not values[key]:
            del values[key]
    if server.name in presets:
        server.remarks.append(
            f"{server.name} is a preset, as its filters change all requests; the server itself is "
            f"{server.name}-plain."
        )
        server.name += "-plain"


def _without_alias(args: Iterable[str], presets: Mapping[str, Preset]) -> list[str]:
    """Leave out `-a NAME` if a preset has that name."""
    words = list(args)
    for at, (flag, value) in enumerate(pairwise(words)):
        if flag in ("-a", "--alias") and not presets.keys().isdisjoint(value.split(",")):
            return words[:at] + words[at + 2 :]
    return words
