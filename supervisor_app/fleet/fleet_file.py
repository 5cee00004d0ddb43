"""`llamaproxy.toml`, one file for all servers: its tables, and all of their mistakes. Touches no database."""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError

from supervisor_app.core.command_line.fetching import names_repository
from supervisor_app.core.command_line.shell import CommandLineError
from supervisor_app.core.command_line.taken_apart import TakenApart, take_apart
from supervisor_app.core.setting import Section
from supervisor_app.core.settings import SETTINGS
from supervisor_app.fleet.conf import (
    USERS_KEY,
    ConfigError,
    FileServer,
    Overlay,
    binary_of_environment,
    check_text,
    checked_value,
    uids_of,
)
from supervisor_app.fleet.engines import NamedEngine
from supervisor_app.fleet.memory_table import read_memory
from supervisor_app.fleet.model_rules import ModelRules, read_models
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.presets import FIELD as PRESETS
from supervisor_app.fleet.presets import Names, clashes, names_of
from supervisor_app.fleet.toml_lines import Lines
from supervisor_app.gateway.llama.preset_mistakes import mistakes_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from supervisor_app.core.setting import Setting

PORTS = range(8200, 9000)
TABLES = ("defaults", "servers", "engines", "memory", "models")
ENGINE_KEYS = ("binary", "environment")
OF_A_SERVER = ("environment", "node", "command")
OF_DEFAULTS = ("environment", "binary", "users", "ports")
TEXTS = ("node", "command", "binary", "ports")
_NODE = re.compile(r"[A-Za-z0-9_.-]{1,63}")
"""Name of a node, as `--node` takes one."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def short(key: str) -> str:
    """Return the key of the JSON file without its prefix."""
    return key.removeprefix("llama_server_").removeprefix("llama_")


KEYS: Mapping[str, Setting] = {
    name: setting
    for setting in SETTINGS
    if setting.section is not Section.NODE
    for name in (setting.key, short(setting.key), setting.field)
}
"""Key, with or without its prefix -> setting."""


def parse_fleet_file(path: Path, text: str) -> Overlay:
    """Parse the text of the file; `path` is for messages. Raises ConfigError with all mistakes."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}. Mend that line.") from error
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: a number in it has too many digits.") from error
    except RecursionError:
        raise ConfigError(f"{path} cannot be read: its lists are nested too deeply.") from None
    return _Reader(path, text).read(data)


class _Reader:
    """Reads one file, and goes on after a mistake."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = Lines(text)
        self._mistakes: list[str] = []
        self._engines: dict[str, NamedEngine] = {}

    def read(self, data: dict[str, Any]) -> Overlay:
        for name, value in data.items():
            if name not in TABLES:
                self.unknown((name,), TABLES, "table")
            elif not isinstance(value, dict):
                self.wrong((name,), value, f"a table: [{name}]")
                data = {**data, name: {}}
        self._engines = {
            name: self._engine(("engines", name), table)
            for name, table in self._tables("engines", data.get("engines", {}))
        }
        defaults = self._described(("defaults",), data.get("defaults", {}), OF_DEFAULTS)
        if "port" in defaults:
            self._say(("defaults", "port"), "all servers would have this port. Set it for each, or for none.")
            del defaults["port"]
        servers = {
            name: self._server(name, table, defaults)
            for name, table in self._tables("servers", data.get("servers", {}))
        }
        self._check_ports(servers)
        self._check_presets(servers)
        users = self._users(defaults)
        ports = self._ports(defaults.get("ports"))
        memory = read_memory(data["memory"], self) if "memory" in data else None
        models = read_models(data["models"], self) if "models" in data else ModelRules()
        if self._mistakes:
            raise ConfigError(*self._mistakes)
        return Overlay(
            source=str(self._path),
            binary=defaults.get("binary") or binary_of_environment(),
            users=users,
            fleet_file=str(self._path),
            servers=servers,
            engines=self._engines,
            ports=ports,
            memory=memory,
            models=models,
        )

    def _say(self, key: tuple[str, ...], what: str) -> None:
        self._mistakes.append(f"{self._path}, line {self._lines.of(*key)}: {'.'.join(key)}: {what}")

    def wrong(self, key: tuple[str, ...], value: Any, remedy: str) -> None:
        """Note a value that cannot be used."""
        self._say(key, f"it is {value!r}, and must be {remedy}.")

    def unknown(self, key: tuple[str, ...], known: tuple[str, ...], what: str = "key") -> None:
        """Note a key that there is not."""
        close = get_close_matches(key[-1], known, 1)
        remedy = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(known)}."
        self._say(key, f"there is no such {what}. {remedy}")

    def _tables(self, name: str, tables: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        for key, table in tables.items():
            if not isinstance(table, dict):
                self.wrong((name, key), table, f"a table: [{name}.{key}]")
        return [(key, table) for key, table in tables.items() if isinstance(table, dict)]

    def _engine(self, at: tuple[str, ...], table: dict[str, Any]) -> NamedEngine:
        for key in table.keys() - set(ENGINE_KEYS):
            self.unknown((*at, key), ENGINE_KEYS)
        binary = self._text((*at, "binary"), table["binary"]) if "binary" in table else ""
        return NamedEngine(binary=binary, environment=self._environment(at, table.get("environment", {})))

    def _text(self, at: tuple[str, ...], value: Any) -> str:
        if isinstance(value, str) and value.strip() and "\0" not in value:
            return value
        self.wrong(at, value, "text that is not empty")
        return ""

    def _environment(self, at: tuple[str, ...], value: Any) -> dict[str, str]:
        at = (*at, "environment")
        if not isinstance(value, dict):
            self.wrong(at, value, 'a table of strings, such as { CUDA_VISIBLE_DEVICES = "0" }')
            return {}
        for name, text in value.items():
            if not _VARIABLE.fullmatch(name):
                self._say((*at, name), "this is no name of a variable. Use letters, digits and _.")
            elif name.startswith("LLAMA_ARG_") or name == "LLAMA_API_KEY":
                self._say((*at, name), "it stands for a setting. Write args or api_key instead.")
            elif not isinstance(text, str) or "\0" in text:
                self._say((*at, name), 'its value must be text, such as "0".')
        return {name: str(text) for name, text in value.items()}

    def _described(
        self, at: tuple[str, ...], table: dict[str, Any], others: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return the settings of a table by their fields, with those of `others` by their keys."""
        found: dict[str, Any] = {}
        for key, value in table.items():
            name = short(key)
            if name not in others and key not in KEYS:
                self._hint((*at, key), others)
                continue
            field = name if name in others else KEYS[key].field
            if field in found:
                self._say((*at, key), f"{name} is set twice, with and without a prefix. Leave one of them.")
            elif field == "environment":
                found[field] = self._environment(at, value)
            elif field in TEXTS:
                found[field] = self._text((*at, key), value)
            elif field == PRESETS:
                found[field] = self._presets((*at, key), value)
            elif field == "users":
                found[field] = value
            else:
                self._take(found, (*at, key), KEYS[key], value)
        return found

    def _hint(self, at: tuple[str, ...], others: tuple[str, ...]) -> None:
        if short(at[-1]) == "binary":
            self._say(at, 'name it in [engines.NAME] binary = "…", and here engine = "NAME".')
        elif short(at[-1]) in ("users", "ports"):
            self._say(at, "it holds for all servers. Set it in [defaults].")
        else:
            self.unknown(at, tuple(sorted({*map(short, KEYS), *others})))

    def _take(self, found: dict[str, Any], at: tuple[str, ...], setting: Setting, value: Any) -> None:
        where = f"{self._path}, line {self._lines.of(*at)}"
        try:
            check_text(where, ".".join(at), value)
            found[setting.field] = checked_value(where, ".".join(at), setting, value)
        except ConfigError as error:
            self._mistakes += error.mistakes

    def _server(self, name: str, table: dict[str, Any], defaults: dict[str, Any]) -> FileServer:
        at, before = ("servers", name), len(self._mistakes)
        own = self._described(at, table, OF_A_SERVER)
        if own.get("node") and not _NODE.fullmatch(own["node"]):
            self._say((*at, "node"), "this is no name of a node. Use up to 63 letters, digits, - _ and .")
        command = self._command(at, own)
        engine = self._engine_of(at, own.get("engine", defaults.get("engine", "")))
        if command.binary and "engine" in own:
            self._say(
                (*at, "command"), f"it names {command.binary!r}, and engine another. Leave one of them."
            )
        elif command.binary:
            own["engine"] = ""  # the program is set, by its path
        values = {**defaults, **own}
        environment = {
            **engine.environment,
            **defaults.get("environment", {}),
            **own.get("environment", {}),
        }
        lines = {
            field: self._line_of(at, field, own)
            for field in values
            if field not in (*OF_A_SERVER, *OF_DEFAULTS)
        }
        values = {field: value for field, value in values.items() if field in lines}
        if len(self._mistakes) == before:  # else what is missing may be what was wrong
            self._check_server(name, own, values)
        return FileServer(
            values=values,
            node=own.get("node", ""),
            binary=command.binary or engine.binary,
            environment=environment,
            lines={**lines, "": self._lines.of(*at)},
        )

    def _line_of(self, at: tuple[str, ...], field: str, own: dict[str, Any]) -> int:
        table = at if field in own else ("defaults",)
        names = [key for key, setting in KEYS.items() if setting.field == field]
        lines = {self._lines.of(*table, name) for name in names} - {self._lines.of(*table)}
        return min(lines, default=self._lines.of(*table, "command"))

    def _engine_of(self, at: tuple[str, ...], name: str) -> NamedEngine:
        if name and name not in self._engines:
            known = ", ".join(self._engines) or "none"
            self._say((*at, "engine"), f"there is no [engines.{name}]. Engines: {known}.")
        return self._engines.get(name, NamedEngine())

    def _command(self, at: tuple[str, ...], own: dict[str, Any]) -> TakenApart:
        """Take the command line apart into the fields of the server."""
        at = (*at, "command")
        try:
            parts = take_apart(own.pop("command", ""))
        except CommandLineError as error:
            self._say(at, f"{error}.")
            return TakenApart()
        environment = self._environment(at, parts.environment)
        said = {**parts.values, **({"args": parts.args} if parts.args else {})}
        for field, value in said.items():
            if field in own:
                self._say(at, f"it says {field}, and so does the key {field}. Leave one of them.")
            else:
                self._take(own, at, _SETTING_OF[field], value)
        for name in environment.keys() & own.get("environment", {}).keys():
            self._say(at, f"it sets {name}, and so does environment. Leave one of them.")
        if environment:
            own["environment"] = {**environment, **own.get("environment", {})}
        return parts

    def _check_server(self, name: str, own: dict[str, Any], values: dict[str, Any]) -> None:
        at = ("servers", name)
        try:
            LlamaServer._meta.get_field("name").clean(name, None)
        except ValidationError:
            most = LlamaServer._meta.get_field("name").max_length
            self._say(at, f"this is no name of a server: use 1 to {most} letters, digits, - and _.")
        fetched = names_repository(values.get("args", ()))
        if own.get("models_dir") and own.get("model_path"):
            self._say((*at, "models_dir"), "there is a model_path, too. Leave one of them.")
        if own.get("models_dir") and "model_path" not in own:
            values["model_path"] = ""
        elif own.get("model_path") and "models_dir" not in own:
            values.pop("models_dir", None)
        if not (values.get("model_path") or values.get("models_dir") or fetched):
            self._say(at, 'it has no model. Write model_path = "….gguf", models_dir, or a command with -m.')
        try:
            LlamaServer(name=name, **values).clean()
        except ValidationError as error:
            self._say(at, " ".join(error.messages))

    def _check_ports(self, servers: Mapping[str, FileServer]) -> None:
        taken: dict[tuple[str, int], str] = {}
        for name, server in servers.items():
            if "port" not in server.values:
                continue
            port = server.values["port"]
            first = taken.setdefault((server.node, port), name)
            if first != name:
                self._say(
                    ("servers", name, "port"),
                    f"{port} is the port of {first}, too. Write another, or leave the key out.",
                )

    def _presets(self, at: tuple[str, ...], value: Any) -> dict[str, Any]:
        if at[0] == "defaults":
            self._say(at, "all servers would have these names. Write them at each server.")
            return {}
        before = len(self._mistakes)
        for path, what in mistakes_in(value):
            self._say((*at, *path), what)
        return value if len(self._mistakes) == before else {}

    def _check_presets(self, servers: Mapping[str, FileServer]) -> None:
        known: list[Names] = []
        for name, server in servers.items():
            mine = names_of(name, server.values)
            for clashing, what in clashes(mine, known):
                field = mine.field_of(clashing)
                path = () if field == "name" else (field, clashing)
                self._say(("servers", name, *path), what)
            known.append(mine)

    def _users(self, defaults: dict[str, Any]) -> frozenset[int]:
        if "users" not in defaults:
            return frozenset()
        where = f"{self._path}, line {self._lines.of('defaults', 'users')}"
        try:
            return uids_of(where, defaults["users"])
        except ConfigError as error:
            self._mistakes += [mistake.replace(USERS_KEY, "defaults.users") for mistake in error.mistakes]
            return frozenset()

    def _ports(self, said: str | None) -> range:
        if said is None:
            return PORTS
        match = re.fullmatch(r"\s*(\d{1,5})\s*-\s*(\d{1,5})\s*", said)
        if match and 1 <= int(match[1]) <= int(match[2]) <= 65535:
            return range(int(match[1]), int(match[2]) + 1)
        self.wrong(("defaults", "ports"), said, f'a range of ports, such as "{PORTS[0]}-{PORTS[-1]}"')
        return PORTS


_SETTING_OF = {setting.field: setting for setting in KEYS.values()}
