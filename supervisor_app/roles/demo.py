"""`--demo`: the default server on a tiny model that is made on the spot, for a first look and for tests."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from supervisor_app.core.machine.identity import identity_of
from supervisor_app.engine.demo_model import EngineExtraMissingError, make_demo_model
from supervisor_app.fleet.conf import DEFAULT_SERVER, ConfigError, Overlay
from supervisor_app.fleet.models import LlamaServer, ServerState
from supervisor_app.fleet.snapshots import identity_of_row

if TYPE_CHECKING:
    from pathlib import Path

# One thread: with more, a 0.5 MB model spends its time waiting for the others to wake.
DEMO_ARGS = ["-c", "2048", "-t", "1"]


def demo_overlay(configured: Overlay, data_dir: Path) -> Overlay:
    """Lay the demo over the configuration, for this run only: no file is written. Raises ConfigError."""
    try:
        model = make_demo_model(data_dir / "models" / "demo.gguf")
    except EngineExtraMissingError as error:
        raise ConfigError(str(error)) from error
    values: dict[str, Any] = {"model_path": str(model), "models_dir": "", "args": DEMO_ARGS}
    if "port" not in configured.values:
        values["port"] = _port()
    return Overlay(source="--demo", values=values)


def _port() -> int:
    """The usual one, unless somebody else has it: a first look must not take over a stranger's server."""
    state = ServerState.objects.filter(server__name=DEFAULT_SERVER).first()
    identity = identity_of_row(state) if state else None
    if state and identity and identity_of(identity.pid) == identity and urlsplit(state.url).port:
        return int(urlsplit(state.url).port or 0)
    usual: int = LlamaServer._meta.get_field("port").default
    for port in (usual, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError("No port is free on 127.0.0.1.")
