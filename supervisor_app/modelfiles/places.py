"""Directories of models of this node, and the files in them that servers name. Blocking."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from supervisor_app.core.diagnosis.named_files import named_files
from supervisor_app.fleet.conf import resolve
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.library.shelf import DEEPEST, Shelved, models_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.core.spec import LaunchSpec
    from supervisor_app.fleet.conf import Overlay
    from supervisor_app.fleet.model_rules import ModelRules

MODELS = "models"
"""Folder of the data directory, unless a file names another."""
MODELS_FLAG = "--models-dir"


@dataclass(frozen=True, kw_only=True)
class Named:
    """Real paths that a server names: files, and directories of which it may load every file."""

    files: frozenset[Path] = frozenset()
    routed: frozenset[Path] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Places:
    """`own`: the directory to which models are downloaded, and in which they may be deleted."""

    own: Path
    servers: dict[str, Named] = field(default_factory=dict)

    @property
    def directories(self) -> dict[Path, int]:
        """Directories, each with how deep to look."""
        beside = {file.parent: 0 for named in self.servers.values() for file in named.files}
        routed = {folder: 1 for named in self.servers.values() for folder in named.routed}
        return {**beside, **routed, self.own: DEEPEST}

    def models(self) -> list[Shelved]:
        """Look into all directories; a model that lies in several is found once."""
        found: dict[Path, Shelved] = {}
        for directory, deepest in self.directories.items():
            found |= {model.path: model for model in models_in(directory, deepest=deepest)}
        return list(found.values())

    def users(self, files: Iterable[Path]) -> list[str]:
        """Return the servers that use one of these files."""
        real = {_real(file) for file in files}
        parents = {parent for file in real for parent in file.parents}
        return sorted(
            name
            for name, named in self.servers.items()
            if not named.files.isdisjoint(real) or not named.routed.isdisjoint(parents)
        )


def places_of(node: str, overlay: Overlay) -> Places:
    """Read the servers of a node and what they name. Raises what the database raises."""
    cwd = os.getcwd()
    servers = {
        server.name: named_by(resolve(server, overlay, command=(), cwd=cwd).spec)
        for server in LlamaServer.objects.on_node(node)
    }
    return Places(own=own_directory(overlay.models), servers=servers)


def own_directory(rules: ModelRules) -> Path:
    """Return the directory of models of this node, a real path."""
    said = rules.models_dir
    return _real(Path(said).expanduser() if said else Path(settings.DATA_DIR, MODELS))


def named_by(spec: LaunchSpec) -> Named:
    """Return the models that a command line names."""
    named = named_files(spec)
    return Named(
        files=frozenset(_real(file.path) for file in named if file.gguf),
        routed=frozenset(_real(file.path) for file in named if file.flag == MODELS_FLAG),
    )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
