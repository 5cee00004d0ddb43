"""The engine of a server as a form has it: its command, and the flags that it knows. Blocking."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from supervisor_app.engine.known_flags import KnownFlags, flags_of
from supervisor_app.engine.resolve import EngineKind, EngineMissing, find_engine
from supervisor_app.fleet.conf import is_here
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.engines import UnknownEngineError, engine_of

if TYPE_CHECKING:
    from django.http import QueryDict

    from supervisor_app.fleet.models import LlamaServer


def command_of(server: LlamaServer) -> tuple[str, ...]:
    """Return the command of the engine; empty: it is on another host, bundled, or missing."""
    overlay = last_good()
    try:
        found = find_engine(engine_of(server, overlay).binary or overlay.binary)
    except (EngineMissing, UnknownEngineError):
        return ()
    is_shown = found is not None and found.kind is not EngineKind.BUNDLED and is_here(server.node)
    return found.command if found is not None and is_shown else ()


def known_flags(server: LlamaServer, typed: QueryDict) -> KnownFlags:
    """Return the flags of the engine that is chosen in a form; none of a node on another host."""
    overlay, server = last_good(), copy(server)
    server.engine = typed.get("engine", server.engine)
    if not is_here(server.node):
        return KnownFlags()
    try:
        engine = engine_of(server, overlay)
        found = find_engine(engine.binary or overlay.binary)
    except UnknownEngineError as error:
        return KnownFlags(problem=f"Flags are not checked: {error}.")
    except EngineMissing as error:
        return KnownFlags(problem=f"Flags are not checked: {error}")
    return flags_of(found.command, engine.environment) if found is not None else KnownFlags()
