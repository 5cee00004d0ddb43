"""The config file as it was last good, for everybody: supervisor, pages, gateway, alerts and commands.

A file with a mistake, or one that is gone while an editor replaces it, does not mean that no key and no model
is configured. The supervisor keeps the last good text in the data directory, so that a process that starts
meanwhile knows it, too.
"""

from __future__ import annotations

import json
import logging
import os
from functools import lru_cache
from pathlib import Path
from threading import Lock

from django.conf import settings

from supervisor_app.fleet.conf import ConfigError, Overlay, without_file
from supervisor_app.fleet.config_file import parse_overlay, read_overlay

log = logging.getLogger(__name__)

KEPT_AS = "config-last-good.json"
Mark = tuple[int, ...]


class ConfigSource:
    """The config file, re-read when it changes. A mistake is logged once, and the last good version stays.

    `kept`: where the supervisor keeps the last good version. It is the one that gives `first`, what the file
    was found to say at the start; everybody else reads. `extra` wins over the file.
    """

    def __init__(
        self, path: Path, kept: Path, *, first: Overlay | None = None, extra: Overlay | None = None
    ) -> None:
        self._path = path
        self._kept = kept
        self._extra = extra or Overlay()
        self._keeps = first is not None
        self._lock = Lock()
        """Pages, gateway and supervision ask in threads of their own."""
        self._mark = self._look()
        if first is not None:
            self._overlay = first
            self._keep()
        else:
            self._overlay = self._recalled()
            self._read()

    def __call__(self) -> Overlay:
        return self.of_file().merged(self._extra)

    def of_file(self) -> Overlay:
        """Return what the file says, without `extra`."""
        with self._lock:
            mark = self._look()
            if mark != self._mark:
                self._mark = mark
                if self._read():
                    log.info("📝 [CONFIG] %s was changed", self._path)
                    self._keep()
            return self._overlay

    def _read(self) -> bool:
        """Take over what the file says, if it is there and good."""
        if not self._mark:
            if self._overlay.source:
                log.warning(
                    "⚠️ [CONFIG] %s is gone: what it said last stays in force until it is back. To run "
                    "without one, start llamaproxy again.",
                    self._path,
                )
            return False
        try:
            self._overlay = read_overlay(self._path)
        except ConfigError as error:
            log.error("❌ [CONFIG] %s Going on with what it said before.", error)
            return False
        return True

    def _look(self) -> Mark:
        try:
            stat = self._path.stat()
        except OSError:
            return ()
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)

    def _keep(self) -> None:
        """Write down what is in force. It may hold a key, so it is for the owner alone."""
        if not self._keeps:
            return
        try:
            if not self._mark:
                self._kept.unlink(missing_ok=True)
                return
            said = json.dumps({"path": str(self._path), "text": self._path.read_text(encoding="utf-8-sig")})
            draft = self._kept.with_suffix(".part")
            draft.unlink(missing_ok=True)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(said)
            draft.replace(self._kept)
        except OSError as error:
            log.warning("⚠️ [CONFIG] %s is not kept: %s", self._path, error)

    def _recalled(self) -> Overlay:
        """Return the version that the supervisor kept of this file, or an empty one."""
        kept = recalled(self._kept)
        return kept if kept is not None and kept.source == str(self._path) else without_file()


def recalled(kept: Path) -> Overlay | None:
    """Return the version that the supervisor kept, of whichever file."""
    try:
        said = json.loads(kept.read_text(encoding="utf-8"))
        return parse_overlay(Path(said["path"]), str(said["text"]))
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        return None  # nothing was kept, or by another version of llamaproxy


def keep_last_good(first: Overlay, extra: Overlay) -> ConfigSource:
    """Return the supervisor's source, which is the one of its whole process: a change is told once."""
    of = settings.LLAMAPROXY_CONFIG, kept_at()
    _supervisors[of] = source = ConfigSource(*of, first=first, extra=extra)
    return source


def last_good() -> Overlay:
    """Return the config file as it was when it was last good; one source for the whole process."""
    of = settings.LLAMAPROXY_CONFIG, kept_at()
    return (_supervisors.get(of) or _source(*of)).of_file()


def kept_at() -> Path:
    """Return the file in which the supervisor keeps the last good version."""
    return Path(settings.DATA_DIR) / KEPT_AS


_supervisors: dict[tuple[Path, Path], ConfigSource] = {}
_source = lru_cache(maxsize=4)(ConfigSource)
