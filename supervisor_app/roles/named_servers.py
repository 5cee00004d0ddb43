"""Servers that somebody names in a shell, or a sentence that says which there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.management.base import CommandError

from supervisor_app.fleet.commands import server_named
from supervisor_app.fleet.models import LlamaServer

if TYPE_CHECKING:
    from supervisor_app.fleet.models import LlamaServerQuerySet

NO_SUCH_SERVER = 2


def servers_named(name: str | None) -> LlamaServerQuerySet:
    """Return the server with this name; None: all servers. Raises CommandError where there is none."""
    servers = LlamaServer.objects.all() if name is None else server_named(name)
    if servers.exists():
        return servers
    if name is None:
        raise CommandError("No server is configured. Run manage.py runsupervisor.", returncode=NO_SUCH_SERVER)
    raise CommandError(f"There is no server {name!r}. Servers: {known_names()}.", returncode=NO_SUCH_SERVER)


def the_server(name: str | None) -> LlamaServer:
    """Return the server with this name; None: the only one. Raises CommandError."""
    servers = servers_named(name)
    if len(servers) > 1:
        known = ", ".join(server.name for server in servers)
        raise CommandError(f"Which one? Name it: {known}.", returncode=NO_SUCH_SERVER)
    return servers[0]


def known_names() -> str:
    """Return the names of all servers, for a sentence."""
    return ", ".join(LlamaServer.objects.values_list("name", flat=True)) or "none yet"
