"""Memory of GPUs that is on its way back: a driver may free it after the process that used it has gone.

The kernel frees the host's memory before it tells that a process has ended, so there is nothing to wait for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from supervisor_app.core.devices import Survey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.devices import Device

GRACE_SECONDS = 10.0
"""After that it counts as used by strangers."""
NOISE = 64 * 2**20
"""Bytes that strangers may use more or less from one look to the next."""


@dataclass
class Returning:
    """Compares what strangers seem to use with what they used before a process of ours went."""

    _before: dict[str, int] = field(default_factory=dict)
    """Bytes of strangers by device, at the last look without memory on its way."""
    _gone: dict[str, tuple[float, Mapping[str, int]]] = field(default_factory=dict)
    """Server -> when its process was seen to be gone, and what it needed."""

    @property
    def is_awaited(self) -> bool:
        return bool(self._gone)

    def left(self, name: str, needed: Mapping[str, int], now: float) -> None:
        """Note that the process of a server has gone."""
        self._gone[name] = now, needed

    def look(self, survey: Survey, now: float) -> tuple[Survey, dict[str, dict[str, int]]]:
        """Return the survey with that memory taken off the strangers, and whose it was.

        That is by server, then by device, in bytes.
        """
        self._gone = {name: gone for name, gone in self._gone.items() if now < gone[0] + GRACE_SECONDS}
        kept: dict[str, dict[str, int]] = {}
        devices = tuple(self._settled(device, kept) for device in survey.devices)
        self._gone = {name: gone for name, gone in self._gone.items() if name in kept}
        if not self._gone:
            self._before = {device.id: device.strangers for device in survey.devices}
            return survey, {}
        return Survey(devices, survey.problems), kept

    def _settled(self, device: Device, kept: dict[str, dict[str, int]]) -> Device:
        more = 0 if device.is_host else device.strangers - self._before.get(device.id, device.strangers)
        if more <= NOISE:
            return device
        rest = more
        for name, (_, needed) in self._gone.items():
            part = min(rest, needed.get(device.id, 0))
            if part > 0:
                kept.setdefault(name, {})[device.id] = part
                rest -= part
        return replace(device, ours=device.ours + more - rest)
