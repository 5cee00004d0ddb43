"""Servers found in a foreign configuration, and remarks on what has no counterpart. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from supervisor_app.common.redact import HIDDEN, redact_argv

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SECRET_NAME = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"(-{0,2}[A-Za-z_]\w*)=.*", re.DOTALL)


class ImportMistakeError(ValueError):
    """A mistake in what is to be imported: one sentence with line and key."""


@dataclass(kw_only=True)
class Server:
    """A server as its table will be."""

    name: str
    """Name as the source has it; what `llamaproxy.toml` does not allow in a name is replaced later."""
    values: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    binary: str = ""
    """Path of the program; empty: the engine of the node."""
    remarks: list[str] = field(default_factory=list)

    @property
    def has_model(self) -> bool:
        return bool(self.values.get("model_path") or self.values.get("models_dir") or self.fetches)

    fetches: bool = False
    """True: the flags name a repository, from which llama-server fetches the model."""


@dataclass(kw_only=True)
class Found:
    """Contents of a foreign configuration."""

    kind: str
    """Kind of the source in words, for the head of the file."""
    preface: str = ""
    """A remark on all of it."""
    servers: list[Server] = field(default_factory=list)
    defaults: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, int] | None = None
    """Group -> how many of its servers are loaded at once; None: the source shares no memory."""
    remarks: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    """Values that no remark may repeat."""

    def add(self, server: Server) -> None:
        """Take a server over, or say why not."""
        self.secrets += secrets_among(server.environment)
        key = server.values.get("api_key", "")
        if "$" in key:
            del server.values["api_key"]
            server.remarks.append(f"{key} is not known here: a random key is made unless api_key is written.")
        elif key:
            self.secrets.append(key)
        if server.has_model:
            self.servers.append(server)
        else:
            why = "it names no model (-m, --models-dir, -hf)"
            if "--models-preset" in server.values.get("args", ()):
                why = "its models are in the file of --models-preset. Import that file"
            self.remarks.append(f"{server.name}: left out, because {why}.")
            self.remarks += server.remarks


def secrets_among(values: dict[str, str]) -> list[str]:
    """Return the values whose names say that they are secret."""
    return [value for name, value in values.items() if _SECRET_NAME.search(name)]


def remark(line: int, key: str, value: Any, advice: str) -> str:
    """Return a remark on a key without counterpart: where, its value without secrets, what to do instead."""
    text = json.dumps(_shown(key, value), ensure_ascii=False, default=str)
    return f"line {line}: {key} = {text}: {advice}"


def shown_command(words: Sequence[str]) -> str:
    """Return a command line for people, without secrets and without values of variables."""
    return " ".join(_ASSIGNMENT.sub(rf"\1={HIDDEN}", word) for word in redact_argv(words))


def mistakes_of(found: Found) -> Iterable[str]:
    """Yield why nothing can be imported, if so."""
    if not found.servers:
        reasons = " ".join(found.remarks[:3]) or "It is empty."
        yield f"Nothing to import in {found.kind}. {reasons}"


def _shown(key: str, value: Any) -> Any:
    if _SECRET_NAME.search(key.rpartition(".")[2]) and not isinstance(value, bool | int):
        return HIDDEN
    if isinstance(value, dict):
        return {str(name): _shown(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shown("", inner) for inner in value]
    if isinstance(value, str) and (assigned := _ASSIGNMENT.fullmatch(value)):
        return f"{assigned[1]}={HIDDEN}"
    return value
