"""Rows of the servers that a file describes: those of a node are written by its supervisor alone."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.db import transaction

from supervisor_app.common.redact import HIDDEN, redact_argv
from supervisor_app.core.settings import BY_FIELD
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.fleet.audit import Door, Origin, acting, note
from supervisor_app.fleet.conf import DEFAULT_SERVER, ConfigError, FileServer, Overlay
from supervisor_app.fleet.kept_engines import KeptEngines
from supervisor_app.fleet.lease import is_supervised
from supervisor_app.fleet.models import LlamaServer, ServerState, default_of, ports_of
from supervisor_app.fleet.presets import FIELD as PRESETS
from supervisor_app.fleet.presets import clashes, names_of, preset_changes
from supervisor_app.fleet.versions import configured, note_version, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

log = logging.getLogger(__name__)


def is_free(port: int) -> bool:
    """Tell whether nobody on this host listens on the port, at any IPv4 address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


class FileServers:
    """The overlay in force, whose servers have their rows. Called in one thread, that of the store."""

    def __init__(self, node: str, overlay: Callable[[], Overlay]) -> None:
        self._node = node
        self._overlay = overlay
        self._in_force = Overlay()
        self._engines = KeptEngines(node)
        self._complaint = ""

    def __call__(self) -> Overlay:
        """Return it; what the file says anew is applied first. Raises what the database raises."""
        said = self._engines(self._overlay())
        if said.servers == self._in_force.servers:
            self._in_force = said
        else:
            self._apply(said)
        self._leave_taken_ports()
        return self._in_force

    def _apply(self, said: Overlay) -> None:
        try:
            diff = write_rows(self._node, said)
        except ConfigError as error:
            self._complain(error)
            return
        diff.launches(self._in_force.servers, said.servers)
        self._in_force, self._complaint = said, ""
        if diff.lines:
            log.info("📝 [CONFIG] %s: %s", said.fleet_file, "; ".join(diff.lines))

    def _complain(self, error: ConfigError) -> None:
        if str(error) != self._complaint:
            log.error("❌ [CONFIG] %s Going on with what was in force before.", error)
        self._complaint = str(error)

    def _leave_taken_ports(self) -> None:
        """Give another port to servers whose chosen one a stranger holds."""
        if all("port" in server.values for server in self._in_force.servers.values()):
            return
        states = ServerState.objects.filter(server__node=self._node, status=Status.ERROR)
        for state in states.exclude(server__file="").select_related("server"):
            server = state.server
            if (state.failure or {}).get("kind") != FailureKind.PORT_TAKEN or "port" in server.file_fields:
                continue
            if urlsplit(state.url).port != server.port or is_free(server.port):
                continue  # it has another one already, or starts by itself in a moment
            taken = server.port
            try:
                server.port = choose_port(self._node, self._in_force.ports, set())
            except ConfigError as error:
                self._complain(error)
                return
            server.save(update_fields=["port"])
            log.warning(
                "⚠️ [CONFIG] Port %d of %s is taken: it gets %d",
                taken,
                server.name,
                server.port,
                extra={"server": server.name},
            )


def prepare_rows(node: str, overlay: Overlay) -> None:
    """Write the rows before the start. Raises ConfigError, also where the file of earlier rows is gone."""
    if overlay.fleet_file:
        write_rows(node, overlay)
        return
    check_orphans(node)


def check_orphans(node: str) -> None:
    """Refuse to go on without the file of earlier rows. Raises ConfigError."""
    orphans = LlamaServer.objects.on_node(node).exclude(file="")
    if orphans:
        names = ", ".join(server.name for server in orphans)
        raise ConfigError(
            f"{orphans[0].file} describes servers of this node ({names}) and is not in use. Bring it back, "
            "or name it in LLAMAPROXY_CONFIG. To remove these servers and their history, start once with an "
            "empty one."
        )


@dataclass
class Diff:
    """Changes of the rows, a line for each server."""

    changed: dict[str, list[str]] = field(default_factory=dict)

    def launches(self, before: Mapping[str, FileServer], after: Mapping[str, FileServer]) -> None:
        """Add what no row holds: engines and environments. Their values are not shown."""
        for name in before.keys() & after.keys():
            for what in ("binary", "environment"):
                if getattr(before[name], what) != getattr(after[name], what):
                    self.changed.setdefault(name, []).append(
                        f"another {'program' if what == 'binary' else what}"
                    )

    @property
    def lines(self) -> list[str]:
        return [f"{name}: {', '.join(changes)}" for name, changes in sorted(self.changed.items())]


def write_rows(node: str, overlay: Overlay) -> Diff:
    """Make the rows of this node's servers as the file says. Raises ConfigError; then nothing is changed."""
    with acting(Origin(actor=lambda: overlay.fleet_file or overlay.source, door=Door.FILE)):
        return _write_rows(node, overlay)


@transaction.atomic
def _write_rows(node: str, overlay: Overlay) -> Diff:
    rows = {row.name: row for row in LlamaServer.objects.all()}
    check_names(node, overlay, rows)
    diff = Diff()
    for row in [row for row in rows.values() if row.file and row.node == node]:
        described = overlay.servers.get(row.name)
        if described is None:
            note("delete", f"server {row.name}", shown(configured(row)))
            row.delete()
            diff.changed[row.name] = ["removed"]
        elif (described.node or node) != node:
            _hand_over(row, described.node)
            note("move", f"server {row.name}", {"node": node}, {"node": described.node})
            diff.changed[row.name] = [f"moved to node {described.node}"]
    wanted = _of_node(node, overlay)
    ports = _ports(node, overlay, {name: row for name, row in rows.items() if name in wanted})
    moving = [rows[name] for name, port in ports.items() if name in rows and rows[name].port != port]
    _park(node, moving, ports.values())
    for name, described in wanted.items():
        _write_row(rows.get(name), name, node, overlay.fleet_file, described, ports[name], diff)
    return diff


def _hand_over(row: LlamaServer, node: str) -> None:
    """Give a row to another node. Raises ConfigError."""
    if LlamaServer.objects.on_node(node).filter(port=row.port).exists():
        raise ConfigError(f"{row.name} cannot move to node {node}: its port {row.port} is taken there.")
    LlamaServer.objects.filter(pk=row.pk).update(node=node)


def check_names(node: str, overlay: Overlay, rows: Mapping[str, LlamaServer]) -> None:
    """Refuse names and ports that servers made by people have. Raises ConfigError."""
    wanted = _of_node(node, overlay)
    mistakes = []
    by_port = {row.port: name for name, row in rows.items() if row.node == node and name not in wanted}
    for name, described in wanted.items():
        where = f"{overlay.fleet_file}, line {described.lines.get('', 1)}: servers.{name}"
        row = rows.get(name)
        if row and not row.file and name != DEFAULT_SERVER:
            mistakes.append(
                f"{where}: there is a server {name} that was made in the admin. Delete it there, with its "
                "history, or give the table another name."
            )
        elif row and row.node != node and is_supervised(row.node):
            mistakes.append(
                f"{where}: {name} is a server of node {row.node}. Its supervisor has to let go of it first; "
                "or give the table another name."
            )
        other = rows.get(by_port.get(described.values.get("port", 0), ""))
        if other is not None and not other.file:
            mistakes.append(
                f"{overlay.fleet_file}, line {described.lines.get('port', 1)}: servers.{name}.port: "
                f"{other.port} is the port of the server {other.name}, made in the admin. Write another, or "
                "leave the key out."
            )
    mistakes += _clashing_names(node, overlay, rows)
    if mistakes:
        raise ConfigError(*mistakes)


def _clashing_names(node: str, overlay: Overlay, rows: Mapping[str, LlamaServer]) -> Iterator[str]:
    """Yield mistakes: names of the file that are presets of other servers, or the other way round."""
    wanted = _of_node(node, overlay)
    others = [row for name, row in rows.items() if name not in wanted and not (row.file and row.node == node)]
    theirs = [names_of(row.name, vars(row)) for row in others]
    for name, described in wanted.items():
        mine = names_of(name, described.values)
        for clashing, what in clashes(mine, theirs):
            field = mine.field_of(clashing)
            line = described.lines.get(field, described.lines.get("", 1))
            path = f"servers.{name}" if field == "name" else f"servers.{name}.{field}"
            yield f"{overlay.fleet_file}, line {line}: {path}: {what}"


def _of_node(node: str, overlay: Overlay) -> dict[str, FileServer]:
    return {name: server for name, server in overlay.servers.items() if (server.node or node) == node}


def _ports(node: str, overlay: Overlay, rows: Mapping[str, LlamaServer]) -> dict[str, int]:
    """Return the port of each server: that of the file, else the one that it has, else a free one."""
    wanted = _of_node(node, overlay)
    ports = {name: server.values["port"] for name, server in wanted.items() if "port" in server.values}
    for name in wanted.keys() - ports.keys() & rows.keys():
        row = rows[name]
        if row.port not in ports.values() and row.node == node:
            ports[name] = row.port
    for name in wanted:
        if name not in ports:
            ports[name] = choose_port(node, overlay.ports, set(ports.values()))
    return ports


def choose_port(node: str, ports: range, used: set[int]) -> int:
    """Return a port that no server of the node has and nobody listens on. Raises ConfigError."""
    taken = used | ports_of(node)
    for port in ports:
        if port not in taken and is_free(port):
            return port
    raise ConfigError(f"No port of {ports[0]}-{ports[-1]} is free. Set a longer range: [defaults] ports.")


def _park(node: str, rows: Iterable[LlamaServer], ports: Iterable[int]) -> None:
    """Put servers that change their port on numbers that nobody uses: two of them may swap theirs."""
    used = {*ports, *LlamaServer.objects.on_node(node).values_list("port", flat=True)}
    unused = (port for port in range(65535, 0, -1) if port not in used)
    for row in rows:
        LlamaServer.objects.filter(pk=row.pk).update(port=next(unused))


def _write_row(
    row: LlamaServer | None,
    name: str,
    node: str,
    source: str,
    described: FileServer,
    port: int,
    diff: Diff,
) -> None:
    is_new = row is None
    row = row or LlamaServer(name=name)
    values = {**described_values(row, described), "port": port}
    changes = [_change(row, field, value) for field, value in values.items() if getattr(row, field) != value]
    if is_new:
        diff.changed[name] = [f"added, port {port}"]
    elif changes or row.node != node:
        diff.changed[name] = changes or ["taken over"]
    values |= {"node": node, "file": source, "file_fields": sorted(described.values)}
    if is_new or any(getattr(row, field) != value for field, value in values.items()):
        before = None if is_new else configured(row)
        for field, value in values.items():
            setattr(row, field, value)
        row.save(update_fields=None if is_new else list(values))
        note_version(row, before, source)


def described_values(row: LlamaServer, described: FileServer) -> dict[str, Any]:
    """Return what a description sets, and the defaults of what it sets no more; a port is kept."""
    released = set(row.file_fields) - described.values.keys() - {"port"}
    return {**{field: default_of(field) for field in released}, **described.values}


def _change(row: LlamaServer, field: str, value: Any) -> str:
    """Return a change in words, without secrets."""
    if BY_FIELD[field].secret:
        return f"{field} {HIDDEN}"
    if field == PRESETS:
        return ", ".join(preset_changes(getattr(row, field), value))
    return f"{field} {shown_value(field, getattr(row, field))} → {shown_value(field, value)}"


def shown_value(field: str, value: Any) -> str:
    """Return the value of a setting for people, without secrets."""
    if BY_FIELD[field].secret:
        return HIDDEN
    return (" ".join(redact_argv(value)) if field == "args" else str(value)) or "none"
