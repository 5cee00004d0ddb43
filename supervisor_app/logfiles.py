"""The log of a server as people may see it. It lies on the host that runs the server."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

from supervisor_app.config_source import last_good
from supervisor_app.core.logs import LogFile
from supervisor_app.core.processes import server_log
from supervisor_app.core.redact import secrets_of
from supervisor_app.models import LlamaServer

MAX_LINES = 10_000


def log_of(server: LlamaServer) -> LogFile:
    """Its own key and the secrets among its flags are hidden, wherever they were set."""
    configured = last_good().for_server(server.name)
    api_key, args = configured.get("api_key", server.api_key), configured.get("args", server.args)
    return server_log(Path(settings.DATA_DIR) / "logs", server.name, (str(api_key), *secrets_of(args)))
