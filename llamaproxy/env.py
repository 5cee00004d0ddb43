"""Environment variables, read strictly: a value that cannot be understood stops the start."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pathlib import Path

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}


def env_bool(name: str, default: bool) -> bool:
    """Read a yes or no: 1/0, true/false, yes/no, on/off. Raises ImproperlyConfigured for anything else."""
    value = os.environ.get(name)
    if value is None:
        return default
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is not a yes or no. Use 1 or 0.")


def env_list(name: str, default: list[str]) -> list[str]:
    """Read a list whose items are separated by commas."""
    value = os.environ.get(name)
    return default if value is None else [item.strip() for item in value.split(",") if item.strip()]


def sub_path(text: str) -> str | None:
    """Return the path under which a proxy has the pages, without a slash at its end; None for the root.

    Raises ImproperlyConfigured for what is no such path.
    """
    path = text.rstrip("/")
    if not path:
        return None
    if not re.fullmatch(r"(/[A-Za-z0-9_~.-]*[A-Za-z0-9_~-])+", path):
        raise ImproperlyConfigured(f"FORCE_SCRIPT_NAME={text!r} is not a path. Use one such as /llama.")
    return path


def secret_key(path: Path) -> str:
    """Return `SECRET_KEY`, or a key that is made once and kept in `path`, readable by its owner only.

    Raises ImproperlyConfigured when the file can neither be read nor made.
    """
    from_env = os.environ.get("SECRET_KEY")
    if from_env:
        return from_env
    try:
        if not path.exists():
            _write_once(path, secrets.token_urlsafe(50))
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"Cannot keep a secret key in {path}: {error.strerror}. "
            "Set SECRET_KEY, or LLAMAPROXY_DATA_DIR to a directory that can be written."
        ) from error


def _write_once(path: Path, text: str) -> None:
    """Write a file whole or not at all; the first of several processes wins.

    The processes share one draft, under a lock that ends with its holder: the rest
    of a killed one is overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.part")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            draft.unlink(missing_ok=True)
            return
        file.truncate(0)
        file.write(text)
        file.flush()
        draft.replace(path)
