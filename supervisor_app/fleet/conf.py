"""The config file, which overrides a server's row. Bad input is one clear line, never a traceback."""

from __future__ import annotations

import json
import os
import pwd
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.crypto import salted_hmac

from supervisor_app.common.addresses import WILDCARDS
from supervisor_app.common.redact import redact_argv, secrets_of
from supervisor_app.core.command_line.fetching import names_repository
from supervisor_app.core.context.rules import SLOT_FLAG, why_not
from supervisor_app.core.server_config import ServerConfig
from supervisor_app.core.setting import Section, Setting
from supervisor_app.core.settings import BY_KEY, SETTINGS, settings_of
from supervisor_app.core.spec import Claim, HealthPolicy, LaunchSpec, RestartPolicy
from supervisor_app.fleet.engines import NamedEngine, UnknownEngineError, engine_of
from supervisor_app.fleet.model_rules import ModelRules
from supervisor_app.fleet.models import LlamaServer, this_node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.memory_rules import MemoryRules

DEFAULT_SERVER = "default"
"""The server that the config file describes."""
BINARY_KEY = "llama_server_binary"
USERS_KEY = "llama_server_users"
ENGINE_KEY = "engine"
CONTEXTS = "slots"
"""Folder of the data directory for conversations that are kept, with one for each server."""
LAUNCH_FIELDS = tuple(setting.field for setting in settings_of(Section.LAUNCH) if not setting.secret)
"""Columns that decide how a server is launched: what a rollback brings back."""

DIGITS = 8
"""Length of a digest of secrets: with 32 bits many secrets have the same, so it confirms no guess."""


class ConfigError(Exception):
    """Mistake in the config file, in one line: file, key, value, and a value that would do."""

    def __init__(self, *mistakes: str) -> None:
        """`mistakes`: all that were found; the message is the first and how many more there are."""
        first, more = mistakes[0], len(mistakes) - 1
        super().__init__(f"{first} (And {more} more: llama config check.)" if more else first)
        self.mistakes = mistakes


@dataclass(frozen=True, kw_only=True)
class FileServer:
    """A server as a file of several describes it, with what `[defaults]` says."""

    values: Mapping[str, Any]
    """Field of `LlamaServer` -> value. Without `port` one is chosen."""
    node: str = ""
    """Empty: the node that reads the file."""
    binary: str = ""
    """Binary of the server's engine; empty: that of the node."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Field -> line that sets the field; "" -> line of the table."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """Values that win over the row of the server `default`, and where they come from."""

    source: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Field of `LlamaServer` -> value."""
    binary: str | None = None
    """The configured executable, for every server of this node. Never from a web form."""
    users: frozenset[int] = frozenset()
    """Uids, beside our own and root's, whose llama-servers may be taken over."""
    fleet_file: str = ""
    """The file for all servers: those that it made and names no more are to go. Empty: there is none."""
    servers: Mapping[str, FileServer] = field(default_factory=dict)
    """Name -> server. Their values are written into their rows (`fleet.file_servers`)."""
    engines: Mapping[str, NamedEngine] = field(default_factory=dict)
    """Engines by name, for servers that people make."""
    ports: range = range(0)
    """Ports for servers that name none."""
    memory: MemoryRules | None = None
    """Rules of memory; None: no file has a table of them."""
    models: ModelRules = field(default_factory=ModelRules)

    def merged(self, other: Overlay) -> Overlay:
        """Return the values of both overlays; where both have one, that of `other`."""
        return Overlay(
            source=other.source or self.source,
            values={**self.values, **other.values},
            binary=other.binary or self.binary,
            users=self.users | other.users,
            fleet_file=self.fleet_file,
            servers=self.servers,
            engines=self.engines,
            ports=self.ports,
            memory=self.memory,
            models=self.models,
        )

    def for_server(self, name: str) -> Mapping[str, Any]:
        return self.values if name == DEFAULT_SERVER else {}


def parse_json(path: Path, text: str) -> Overlay:
    """Parse the text of a JSON file, of the server `default`; `path` is for messages. Raises ConfigError."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    except RecursionError:
        raise ConfigError(f"{path} cannot be read: its lists are nested too deeply.") from None
    if not isinstance(data, dict):
        raise ConfigError(f'{path} must hold one JSON object, such as {{"llama_server_port": 8134}}.')
    return _checked(path, data, binary_of_environment())


def without_file() -> Overlay:
    """Return the configuration of an installation without a config file."""
    return Overlay(binary=binary_of_environment())


def binary_of_environment() -> str | None:
    return os.environ.get("LLAMA_SERVER_BINARY") or None


def _checked(path: Path, data: dict[str, Any], binary: str | None) -> Overlay:
    values = {}
    users: frozenset[int] = frozenset()
    for key, value in data.items():
        check_text(path, key, value)
        if key == BINARY_KEY:
            if not isinstance(value, str) or not value.strip():
                raise ConfigError(f"{path}: {key} is {value!r}, it must be text.")
            binary = value
        elif key == USERS_KEY:
            users = uids_of(path, value)
        elif key == ENGINE_KEY:
            raise ConfigError(
                f"{path}: {key} is for engines of llamaproxy.toml. Write {BINARY_KEY} here, or use that file."
            )
        elif key in BY_KEY:
            setting = BY_KEY[key]
            values[setting.field] = checked_value(path, key, setting, value)
        else:
            known = ", ".join(sorted(setting.key for setting in SETTINGS if setting.key != ENGINE_KEY))
            raise ConfigError(f"{path}: unknown key {key!r}. Known keys: {known}.")
    if values.get("models_dir") and "model_path" not in values:
        values["model_path"] = ""
    overlay = Overlay(source=str(path), values=values, binary=binary, users=users)
    _check_together(path, overlay)
    return overlay


def uids_of(path: Path | str, value: Any) -> frozenset[int]:
    """Return the uids of users of this machine, given by name or number. Raises ConfigError."""
    if not isinstance(value, list):
        raise ConfigError(f'{path}: {USERS_KEY} is {value!r}, it must be a list of users, such as ["llama"].')
    found = set()
    for user in value:
        if isinstance(user, int) and not isinstance(user, bool) and 0 <= user < 2**32:
            found.add(user)
            continue
        try:
            found.add(pwd.getpwnam(user).pw_uid)
        except (KeyError, TypeError, ValueError):
            raise ConfigError(f"{path}: {USERS_KEY} names {user!r}, no user of this machine.") from None
    return frozenset(found)


def check_text(path: Path | str, key: str, value: Any) -> None:
    """Refuse text that JSON can express and no command line or database can hold. Raises ConfigError."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and re.search("[\0\ud800-\udfff]", text):
            raise ConfigError(f"{path}: {key} contains a NUL or half a surrogate pair.")


def checked_value(path: Path | str, key: str, setting: Setting, value: Any) -> Any:
    """Return the value as its column holds it. Raises ConfigError."""
    shown = "…" if setting.secret else repr(value)
    if not setting.kind.fits(value):
        raise ConfigError(f"{path}: {key} is {shown}, it must be {setting.kind.words}.")
    try:
        return LlamaServer._meta.get_field(setting.field).clean(value, None)  # type: ignore[union-attr]
    except ValidationError as error:
        raise ConfigError(f"{path}: {key} is {shown}: {' '.join(error.messages)}") from error


def _check_together(path: Path, overlay: Overlay) -> None:
    server = LlamaServer(name=DEFAULT_SERVER, **overlay.values)
    try:
        server.clean()
    except ValidationError as error:
        raise ConfigError(f"{path}: {' '.join(error.messages)}") from error
    if not server.model_path and not server.models_dir:
        raise ConfigError(f"{path}: llama_model_path is empty. Name a GGUF file, or set llama_models_dir.")


def apply_overlay(server: LlamaServer, overlay: Overlay) -> None:
    """Override a server in memory only: its row keeps the values that people have set."""
    for name, value in overlaid(server, overlay).items():
        setattr(server, name, value)


def overlaid(server: LlamaServer, overlay: Overlay) -> Mapping[str, Any]:
    """Return what the file sets of a server: of `default`, if that belongs to a node of this host."""
    return overlay.for_server(server.name) if is_here(server.node) else {}


def is_here(node: str) -> bool:
    """Is the node one of this host, by its name or by the lock of its supervisor in our data directory?"""
    return node == this_node() or lock_of(node).exists()


def lock_of(node: str) -> Path:
    """Return the lock file of a node's supervisor."""
    return Path(settings.DATA_DIR, f"node-{node}.lock")


def fixed_fields(server: LlamaServer, overlay: Overlay) -> set[str]:
    """Return the fields of a server that people cannot change, because a file sets them."""
    return {*overlaid(server, overlay), *server.file_fields}


def launch_of(server: LlamaServer) -> dict[str, Any]:
    """Return the columns that decide how a server is launched, as the history keeps them: without secrets."""
    values = {name: getattr(server, name) for name in LAUNCH_FIELDS}
    return {**values, "args": list(redact_argv(server.args))}


def secrets_of_launch(server: LlamaServer) -> str:
    """Return a short digest of what `launch_of` leaves out: that a secret has changed, and nothing of it."""
    said = json.dumps([server.key, *secrets_of(server.args)])
    return salted_hmac("launch", said, secret=server.own_key, algorithm="sha256").hexdigest()[:DIGITS]


def _values_of(section: Section, server: LlamaServer) -> dict[str, Any]:
    """Return the settings of one section in a row, by the names of its policy."""
    return {setting.attribute: getattr(server, setting.field) for setting in settings_of(section)}


def _at_home(word: str) -> str:
    """Expand `~/models/x.gguf` as a shell would."""
    return os.path.expanduser(word) if word.startswith("~/") else word


def resolve(server: LlamaServer, overlay: Overlay, *, command: tuple[str, ...], cwd: str) -> ServerConfig:
    """Resolve a row to the process to launch and its rules. `command` is the engine's; empty without one."""
    apply_overlay(server, overlay)
    try:
        environment, engine_problem = engine_of(server, overlay).environment, ""
    except UnknownEngineError as error:
        environment, engine_problem = {}, str(error)
    models_dir = _at_home(server.models_dir)
    model_path = None if models_dir else _at_home(server.model_path)
    flags = [_at_home(word) for word in server.args]
    model: tuple[str, ...] = ("--models-dir", models_dir)
    if model_path is not None and names_repository(flags):
        model, model_path = (), None
    elif model_path is not None:
        model = ("-m", model_path)
    refusal = why_not(flags if model_path is not None else [*model, *flags]) if server.keep_context else ""
    slot_dir = (
        str(Path(settings.DATA_DIR, CONTEXTS, server.name)) if server.keep_context and not refusal else ""
    )
    spec = LaunchSpec(
        host=server.host,
        port=server.port,
        command=command,
        args=(
            *(*model, "--host", server.host, "--port", str(server.port), *flags),
            *((SLOT_FLAG, slot_dir) if slot_dir else ()),
        ),
        slot_dir=slot_dir,
        model_path=model_path,
        cwd=cwd,
        api_key=server.key,
        has_own_key=server.api_key is None,
        environment=tuple(sorted(environment.items())),
        engine_problem=engine_problem,
        trusted_uids=overlay.users,
        advertised_host=settings.LLAMAPROXY_ADVERTISE if server.host in WILDCARDS else "",
    )
    return ServerConfig(
        name=server.name,
        spec=spec,
        restart=RestartPolicy(**_values_of(Section.RESTART, server)),
        health=HealthPolicy(**_values_of(Section.HEALTH, server)),
        context_refusal=refusal,
        claim=Claim(**_values_of(Section.MEMORY, server)),
        desired_running=server.desired_running,
        generation=server.generation,
        restart_generation=server.restart_generation,
        restart_seamless=server.restart_seamless,
        at_once=server.at_once,
        seamless=server.seamless,
        idle_seconds=server.idle_stop_seconds if server.stopped_for_idleness else None,
        launch=launch_of(server),
        secrets=secrets_of_launch(server),
    )
