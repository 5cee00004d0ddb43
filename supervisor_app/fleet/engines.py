"""The engine of a server: described in a file, chosen by its name where people make servers. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.fleet.models import LlamaServer

DEFAULT = "The default engine"
"""Name, for people, of the engine of a server that names none."""


@dataclass(frozen=True, kw_only=True)
class NamedEngine:
    """Program and variables of `[engines.NAME]`, which come from a file alone."""

    binary: str = ""
    """Empty: the program of the node."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class DescribedServer(Protocol):
    """A server as a file describes it (`conf.FileServer`)."""

    @property
    def values(self) -> Mapping[str, Any]: ...
    @property
    def binary(self) -> str: ...
    @property
    def environment(self) -> Mapping[str, str]: ...


class Described(Protocol):
    """Servers and engines that a file describes (`conf.Overlay`)."""

    @property
    def fleet_file(self) -> str: ...
    @property
    def servers(self) -> Mapping[str, DescribedServer]: ...
    @property
    def engines(self) -> Mapping[str, NamedEngine]: ...


class UnknownEngineError(Exception):
    """Engine that no file describes; the message says of which server, without a full stop."""


def engine_of(server: LlamaServer, overlay: Described) -> NamedEngine:
    """Return the engine of a server: that of its file, else the one that people chose.

    Raises UnknownEngineError.
    """
    described = overlay.servers.get(server.name) if server.file else None
    if described is None:
        return _named(server, overlay)
    if "engine" in described.values:
        return NamedEngine(binary=described.binary, environment=described.environment)
    engine = _named(server, overlay)
    return replace(engine, environment={**engine.environment, **described.environment})


def engine_problem(server: LlamaServer, overlay: Described) -> str:
    """Return why a server has no engine; empty: it has one, or names none."""
    try:
        engine_of(server, overlay)
    except UnknownEngineError as error:
        return str(error)
    return ""


def _named(server: LlamaServer, overlay: Described) -> NamedEngine:
    if not server.engine:
        return NamedEngine()
    if server.engine not in overlay.engines:
        where = f"{overlay.fleet_file} has no" if overlay.fleet_file else "no llamaproxy.toml describes"
        raise UnknownEngineError(
            f"{server.name} is to run on the engine {server.engine}, and {where} [engines.{server.engine}]"
        )
    return overlay.engines[server.engine]
