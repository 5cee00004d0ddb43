"""A question that an engine answers and ends, such as `--version`. Blocking."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE = 10.0
"""Seconds: a build for GPUs opens their driver before it says anything."""


class SilentError(Exception):
    """The engine cannot be run, or does not answer in time; the message says which, as part of a sentence."""


def ask(
    command: Sequence[str], question: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Return what an engine says. Raises SilentError.

    `environment`: variables that a server gets beside our own.
    """
    try:
        return subprocess.run(
            [*command, question],
            capture_output=True,
            timeout=PATIENCE,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired as error:
        raise SilentError(f"no answer within {PATIENCE:g} seconds") from error
    except OSError as error:
        raise SilentError(error.strerror or str(error)) from error
    except (ValueError, subprocess.SubprocessError) as error:
        raise SilentError(str(error)) from error
