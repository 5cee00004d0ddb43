"""`llama-fit-params`, a tool of llama.cpp that tells what a launch will need on each device. Blocking."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOOL = "llama-fit-params"
PATIENCE = 20.0
"""Seconds: it reads metadata alone, but opens the drivers of GPUs and lays out the whole graph."""


def fit_params_beside(command: Sequence[str]) -> Path | None:
    """Return the tool that was installed with an engine; None: it was not.

    Only one of the same folder is of the same build.
    """
    if not command:
        return None
    for engine in (Path(command[0]), Path(os.path.realpath(command[0]))):
        tool = engine.with_name(TOOL)
        if os.access(tool, os.X_OK) and tool.is_file():
            return tool
    return None


def ask_fit_params(tool: Path, flags: Sequence[str], folder: str, environment: Mapping[str, str]) -> str:
    """Return what the tool prints of a launch with exactly these flags; empty when it fails.

    `--fit-print` has been there since build b8857 (llama.cpp PR 22171); older ones refuse the flag.
    """
    try:
        said = subprocess.run(
            [str(tool), *flags, "--fit", "off", "--fit-print", "on"],
            capture_output=True,
            timeout=PATIENCE,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, **environment},
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return said.stdout if said.returncode == 0 else ""
