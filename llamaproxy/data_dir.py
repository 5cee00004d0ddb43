"""The data directory belongs to its user alone: it holds the secret key, logins and everybody's prompts."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pathlib import Path

ROOT = 0
OTHERS = stat.S_IRWXG | stat.S_IRWXO
UMASK = 0o077
"""Umask of every process of ours and its children: what they write is their user's alone."""
OURS = ("config-last-good.json", "db.sqlite3*", "logs", "models", "node-*", "secret-key*", "slots")
"""Names of the files that llamaproxy makes in a data directory. Any other file there is left alone."""


def secured(path: Path) -> list[str]:
    """Close a data directory that is there to other users. Return what had to be mended, in sentences.

    The owner must be this process's user, or root, who need not be asked. Raises ImproperlyConfigured for a
    directory, or something in it, of anybody else, and for one that cannot be closed.
    """
    if not path.is_dir():
        return []  # made where it is needed, which says why that is not possible
    mended = _secure(path)
    for name in OURS:
        for entry in sorted(path.glob(name)):
            with suppress(FileNotFoundError):  # the journals of a database come and go with its users
                mended += _secure_entry(entry)
    return mended


def secured_file(path: Path) -> list[str]:
    """Secure a database elsewhere in the same way, with its journal. Raises ImproperlyConfigured."""
    mended = []
    for file in sorted(path.parent.glob(f"{path.name}*")):
        with suppress(FileNotFoundError):
            mended += _secure(file)
    return mended


def _secure_entry(entry: Path) -> list[str]:
    if _foreign(entry) and entry.suffix == ".lock":
        entry.unlink()
        return [f"{entry} belonged to somebody else: removed."]
    return _secure(entry)


def _secure(path: Path) -> list[str]:
    _check_owner(path)
    return [] if path.is_symlink() or not _is_open(path.stat()) else _close(path)


def _check_owner(path: Path) -> None:
    if _foreign(path):
        uid = path.lstat().st_uid
        raise ImproperlyConfigured(
            f"{path} belongs to user {uid}, and llamaproxy runs as user {os.geteuid()}: its owner could read "
            f"and replace what is kept there. Run llamaproxy as its owner, give it to user "
            f"{os.geteuid()} (chown), or set LLAMAPROXY_DATA_DIR to a directory of your own."
        )


def _foreign(path: Path) -> bool:
    return path.lstat().st_uid not in (os.geteuid(), ROOT)


def _is_open(status: os.stat_result) -> bool:
    """Tell whether other users may use a file. Root means what it gives to a group."""
    given = stat.S_IRWXO if status.st_uid != os.geteuid() else OTHERS
    return bool(status.st_mode & given)


def _close(path: Path) -> list[str]:
    mode = stat.S_IMODE(path.stat().st_mode)
    try:
        path.chmod(mode & ~OTHERS)
        closed = not path.stat().st_mode & OTHERS
    except PermissionError:
        closed = False
    if not closed:
        if not mode & stat.S_IWOTH:
            return []  # root's, and nobody else can change what is in it
        raise ImproperlyConfigured(
            f"{path} is open to every user of this machine (mode {mode:03o}) and cannot be closed. Set "
            "LLAMAPROXY_DATA_DIR to a directory of your own, such as a new one inside of it."
        )
    exposed = " Delete it to make a new one: others could read it." if path.name == "secret-key" else ""
    return [f"{path} was open to others (mode {mode:03o}): closed.{exposed}"]
