"""`manage.py llama config diff`: what the config file would change of what runs, without changing it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.conf import settings

from supervisor_app.common.redact import HIDDEN, harmless, redact
from supervisor_app.core.setting import Section
from supervisor_app.core.settings import BY_FIELD, settings_of
from supervisor_app.fleet.conf import ConfigError, Overlay, overlaid, without_file
from supervisor_app.fleet.config_file import check_one_file
from supervisor_app.fleet.config_source import kept_at, recalled
from supervisor_app.fleet.engines import NamedEngine, UnknownEngineError, engine_of
from supervisor_app.fleet.file_servers import check_orphans, described_values, shown_value
from supervisor_app.fleet.memory_table import memory_lines
from supervisor_app.fleet.model_rules import model_lines
from supervisor_app.fleet.models import LlamaServer, this_node
from supervisor_app.fleet.presets import FIELD as PRESETS
from supervisor_app.fleet.presets import preset_changes
from supervisor_app.roles.config_report import checked_overlay, mistakes_end_the_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

RESTARTING = {*(setting.field for setting in settings_of(Section.LAUNCH)), "binary", "environment", "users"}
"""Parts of a launch: a change of one of them needs another process."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """A server as a version of the file and its row describe it."""

    values: Mapping[str, Any]
    """Field -> value; a port that is yet to be chosen is missing."""
    binary: str
    environment: Mapping[str, str]
    users: frozenset[int]


def diff_config(path: Path | None) -> list[str]:
    """Return a line for each change, by default by the configured file. Raises CommandError on a mistake."""
    with mistakes_end_the_command():
        if path is None:
            path = settings.LLAMAPROXY_CONFIG
            check_one_file(path, named=settings.LLAMAPROXY_CONFIG_NAMED)
        elif not path.exists():
            raise ConfigError(f"There is no file {path}.")
        said = checked_overlay(path)
        if not said.fleet_file:
            check_orphans(this_node())
    rows = {row.name: row for row in LlamaServer.objects.on_node(this_node())}
    runs = recalled(kept_at()) or without_file()
    before = {name: _as_it_runs(row, runs) for name, row in rows.items()}
    after = {name: _as_described(rows.get(name), name, said) for name in _names(rows, said)}
    moved = {name: said.servers[name].node for name in rows.keys() & said.servers.keys() - after.keys()}
    kept = {name for name, row in rows.items() if name in after and _is_lost(row, said)}
    for name in kept:  # a change of the file takes no engine from a server that runs on it
        after[name] = replace(after[name], binary=before[name].binary, environment=before[name].environment)
    lost = [f"{name}: engine {rows[name].engine} is described no more: what runs goes on" for name in kept]
    lines = [*_rule_changes(runs, said), *_lines(before, after, rows, moved), *sorted(lost)]
    return [harmless(line) for line in lines]


def _rule_changes(before: Overlay, after: Overlay) -> Iterator[str]:
    """Yield a line for each rule for memory or models that changes. No such change restarts a server."""
    old, new = _rules(before), _rules(after)
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            yield f"{key}: {old.get(key, 'none')} → {new.get(key, 'none')}"


def _rules(overlay: Overlay) -> dict[str, str]:
    memory = memory_lines(overlay.memory) if overlay.memory else {}
    tables = {"memory": memory, "models": model_lines(overlay.models)}
    return {f"{table}.{key}": value for table, lines in tables.items() for key, value in lines.items()}


def _lines(
    before: Mapping[str, Described],
    after: Mapping[str, Described],
    rows: Mapping[str, LlamaServer],
    moved: Mapping[str, str],
) -> Iterator[str]:
    """Yield a line for each server that comes or goes, and for each key that changes."""
    for name in sorted(before.keys() | after.keys()):
        if name not in before:
            port = after[name].values.get("port")
            yield f"{name}: added, {f'port {port}' if port else 'a port is chosen'}; it is started"
        elif name in moved:
            yield f"{name}: moved to node {moved[name]}; it is stopped here"
        elif name not in after:
            yield f"{name}: removed; it is stopped, and its history goes"
        else:
            runs = rows[name].desired_running
            for key, change in _changes(before[name], after[name]):
                restarts = key in RESTARTING and runs
                yield f"{name}: {change}{' (restarts the server)' if restarts else ''}"


def _changes(before: Described, after: Described) -> Iterator[tuple[str, str]]:
    """Yield what changed, and the change in words without secrets."""
    if before.binary != after.binary:
        yield "binary", f"binary {before.binary or 'default'} → {after.binary or 'default'}"
    for name in sorted(before.environment.keys() | after.environment.keys()):
        old, new = (side.environment.get(name) for side in (before, after))
        if old != new:
            said = ("none" if value is None else HIDDEN for value in (old, new))
            yield "environment", f"environment.{name} {' → '.join(said)}"
    if before.users != after.users:
        old, new = (", ".join(map(str, sorted(side.users))) or "none" for side in (before, after))
        yield "users", f"users {old} → {new}"
    for field in BY_FIELD:
        if field == PRESETS:
            changes = preset_changes(before.values[field], after.values[field])
            yield from ((field, redact(change)) for change in changes)
        elif before.values[field] != after.values[field]:
            old, new = (redact(shown_value(field, side.values[field])) for side in (before, after))
            yield field, f"{field} {old} → {new}"


def _as_it_runs(row: LlamaServer, runs: Overlay) -> Described:
    engine = _engine_of(row, runs)
    values = {field: getattr(row, field) for field in BY_FIELD}
    return Described(
        values={**values, **overlaid(row, runs)},
        binary=engine.binary or runs.binary or "",
        environment=engine.environment,
        users=runs.users,
    )


def _as_described(row: LlamaServer | None, name: str, said: Overlay) -> Described:
    described = said.servers.get(name)
    values = {field: getattr(row or LlamaServer(), field) for field in BY_FIELD}
    if described:
        values |= described_values(row or LlamaServer(), described)
        if row is None and "port" not in described.values:
            del values["port"]
    engine = _engine_of(row, said) if row is not None and described is None else described or NamedEngine()
    return Described(
        values={**values, **(said.for_server(name) if row is None else overlaid(row, said))},
        binary=engine.binary or said.binary or "",
        environment=engine.environment,
        users=said.users,
    )


def _is_lost(row: LlamaServer, overlay: Overlay) -> bool:
    """Does a row name an engine that is not described?"""
    try:
        engine_of(row, overlay)
    except UnknownEngineError:
        return True
    return False


def _engine_of(row: LlamaServer, overlay: Overlay) -> NamedEngine:
    """Return the engine of a row; where it names one that is not described, that of the node."""
    return NamedEngine() if _is_lost(row, overlay) else engine_of(row, overlay)


def _names(rows: Mapping[str, LlamaServer], said: Overlay) -> set[str]:
    """Return the servers that this node will have: those of the file, and those that people have made."""
    node = this_node()
    of_file = {name for name, server in said.servers.items() if (server.node or node) == node}
    return of_file | {name for name, row in rows.items() if not row.file}
