"""`manage.py llama config check` and `config show`: the config file, without running anything."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError

from supervisor_app.common.redact import HIDDEN, harmless, redact_argv
from supervisor_app.common.words import counted
from supervisor_app.core.settings import BY_FIELD
from supervisor_app.fleet.conf import ConfigError, Overlay, apply_overlay, overlaid
from supervisor_app.fleet.config_file import check_one_file, read_overlay
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.engines import UnknownEngineError, engine_of
from supervisor_app.fleet.file_servers import check_names
from supervisor_app.fleet.memory_table import memory_lines
from supervisor_app.fleet.model_rules import ModelRules, model_lines
from supervisor_app.fleet.models import LlamaServer, default_of, this_node
from supervisor_app.fleet.presets import FIELD as PRESETS
from supervisor_app.fleet.presets import shown_presets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BAD_CONFIG = 2


@contextmanager
def mistakes_end_the_command() -> Iterator[None]:
    """Turn a ConfigError into a CommandError with all mistakes, one a line."""
    try:
        yield
    except ConfigError as error:
        raise CommandError("\n".join(map(harmless, error.mistakes)), returncode=BAD_CONFIG) from error


def checked_overlay(path: Path) -> Overlay:
    """Return what the file says, as far as the database has nothing against it. Raises ConfigError."""
    overlay = read_overlay(path)
    with suppress(DatabaseError):  # none was made yet, so nothing in it is in the way
        check_names(this_node(), overlay, {row.name: row for row in LlamaServer.objects.all()})
    return overlay


def check_config() -> str:
    """Return a sentence on a file without mistakes. Raises CommandError with all mistakes, one a line."""
    path = settings.LLAMAPROXY_CONFIG
    with mistakes_end_the_command():
        check_one_file(path, named=settings.LLAMAPROXY_CONFIG_NAMED)
        overlay = checked_overlay(path)
    if not path.exists():
        return f"There is no {path}: all is edited in the admin."
    number = len(overlay.servers) if overlay.fleet_file else 1
    return f"{path}: {counted(number, 'server')}, no mistake"


def show_config(servers: Iterable[LlamaServer]) -> Iterator[str]:
    """Yield lines: rules for memory and models; each setting of each server with its value and origin."""
    overlay = last_good()
    if overlay.memory is not None:
        yield f"memory ({overlay.fleet_file})"
        yield from (harmless(f"  {key} = {value}") for key, value in memory_lines(overlay.memory).items())
        yield ""
    if overlay.models != ModelRules():
        yield f"models ({overlay.fleet_file})"
        yield from (harmless(f"  {key} = {value}") for key, value in model_lines(overlay.models).items())
        yield ""
    for server in servers:
        where = f" ({server.file})" if server.file else ""
        yield f"{server.name} on node {server.node}{where}"
        yield from _engine_lines(server, overlay)
        yield from _settings_of(server, overlay)
        yield ""


def _engine_lines(server: LlamaServer, overlay: Overlay) -> Iterator[str]:
    """Yield what a file says of the engine. Values of variables are not shown."""
    try:
        engine = engine_of(server, overlay)
    except UnknownEngineError as error:
        yield harmless(f"  ⚠️ {error}")
        return
    if engine.binary:
        yield harmless(f"  binary = {engine.binary}  # {server.file or overlay.source}")
    for name in engine.environment:
        yield harmless(f"  environment.{name} = {HIDDEN}  # {server.file or overlay.source}")


def _settings_of(server: LlamaServer, overlay: Overlay) -> Iterator[str]:
    origins = {field: _origin(server, overlay, field) for field in BY_FIELD}
    apply_overlay(server, overlay)
    for field, setting in BY_FIELD.items():
        value = getattr(server, field)
        if field == PRESETS and value:
            for name, preset in shown_presets(value).items():
                yield harmless(f"  {field}.{name} = {preset}  # {origins[field]}")
            continue
        if setting.secret:
            said = {None: "a random one", "": "none"}.get(value, HIDDEN)
        elif field == "args":
            said = str(list(redact_argv(value)))
        else:
            said = repr(value)
        yield harmless(f"  {field} = {said}  # {origins[field]}")


def _origin(server: LlamaServer, overlay: Overlay, field: str) -> str:
    """Return where the value of a field comes from."""
    if field in overlaid(server, overlay):
        return overlay.source
    if field in server.file_fields:
        described = overlay.servers.get(server.name)
        line = described.lines.get(field) if described else None
        return f"{Path(server.file).name}, line {line}" if line else server.file
    if field == "port" and server.file:
        return "chosen"
    is_default = getattr(server, field) == default_of(field)
    return "default" if is_default else "the admin"
