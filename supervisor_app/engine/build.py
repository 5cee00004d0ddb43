"""Build of an engine, as it says itself. Blocking."""

from __future__ import annotations

import os
import re
import subprocess
from importlib import metadata
from typing import TYPE_CHECKING

from supervisor_app.engine.resolve import LAUNCHER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE = 10.0
"""Seconds: a build for GPUs opens their driver before it tells its version."""
_BUILD = re.compile(r"(?m)^version: (?:\S+ \(build )?(\d+)\b")
"""`version: 8763 (ff5ef8278)`; where releases have numbers `version: 0.7.0 (build 11669, commit Debian)`."""


def build_of(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return `b11669`; empty when the engine does not say, or cannot be run.

    `environment`: variables that a server gets beside our own.
    """
    if str(LAUNCHER) in command:
        return f"xllamacpp {metadata.version('xllamacpp')}"
    try:
        said = subprocess.run(
            [*command, "--version"],
            capture_output=True,
            timeout=PATIENCE,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    found = _BUILD.search(said.stdout + said.stderr)
    return f"b{found[1]}" if found else ""
