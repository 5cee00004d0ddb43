"""The choice of the llama-server to run: the configured one, the one on PATH, or the bundled engine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")
BINARY = "llama-server"
HOW_TO_GET_ONE = (
    "Install llama.cpp (https://github.com/ggml-org/llama.cpp) so that `llama-server` is on PATH, "
    "or set llama_server_binary to where it is, or run `pip install '.[engine]'` for the bundled engine."
)


class EngineKind(StrEnum):
    """Origin of an engine."""

    CONFIGURED = "configured"
    PATH = "path"
    BUNDLED = "bundled"


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine: `command` is the executable and what must come before llama-server's flags."""

    command: tuple[str, ...]
    kind: EngineKind

    @property
    def describe(self) -> str:
        """Describe the engine for console and page: "llama-server at /usr/bin/llama-server"."""
        if self.kind is EngineKind.BUNDLED:
            return "the bundled engine (xllamacpp)"
        return f"llama-server at {self.command[0]}"


class EngineMissing(Exception):  # noqa: N818 - it names what is wrong, as FileNotFoundError's kin do
    """The configured llama-server cannot be run. Never replaced by another one in silence."""

    def __init__(self, configured: str, reason: str) -> None:
        super().__init__(f"llama_server_binary {configured!r} {reason}. {HOW_TO_GET_ONE}")
        self.configured = configured


def find_engine(configured: str | None, *, path: str | None = None) -> Engine | None:
    """The engine to use, or None when there is none at all (then say `HOW_TO_GET_ONE`).

    `configured` is llama_server_binary: a path (`~` allowed, relative to the working directory) or a name
    on PATH. `path` is looked through instead of the environment's PATH. Raises EngineMissing.
    """
    if configured:
        return Engine(command=(_configured(configured, path),), kind=EngineKind.CONFIGURED)
    if found := shutil.which(BINARY, path=path):
        # Absolute, because the server's working directory need not be ours.
        return Engine(command=(os.path.abspath(found),), kind=EngineKind.PATH)
    if importlib.util.find_spec("xllamacpp") is not None:
        # Isolated (-I): neither the working directory nor PYTHONPATH may lend it another module.
        return Engine(command=(sys.executable, "-I", str(LAUNCHER)), kind=EngineKind.BUNDLED)
    return None


def _configured(value: str, path: str | None) -> str:
    """The absolute path of the configured executable."""
    expanded = os.path.expanduser(value)
    if found := shutil.which(expanded, path=path):
        return os.path.abspath(found)
    if os.sep not in expanded:
        raise EngineMissing(value, "is not on PATH")
    if os.path.isdir(expanded):
        raise EngineMissing(value, "is a folder, not a program")
    if os.path.exists(expanded):
        raise EngineMissing(value, "is not executable")
    raise EngineMissing(value, "does not exist")
