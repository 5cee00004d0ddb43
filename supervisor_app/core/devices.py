"""Sightings of memory and GPUs: values, which `core.machine.devices` fills."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HOST = "host"


@dataclass(frozen=True, kw_only=True)
class Device:
    """The memory of the host, or of a GPU. All in bytes; `ours` is used by servers of this node."""

    id: str
    """`host`, the UUID of a GPU of NVIDIA, the PCI address of another: the same over restarts."""
    name: str
    total: int
    free: int
    ours: int = 0
    users: Mapping[int, int] = field(default_factory=dict, compare=False)
    """The part of `ours` that each server uses, by its pid; only where this look was taken."""
    note: str = ""
    """Remark on what the numbers do not say, as a sentence."""

    @property
    def strangers(self) -> int:
        """Used by others, and by what cannot be attributed to anybody."""
        return max(0, self.total - self.free - self.ours)

    @property
    def is_host(self) -> bool:
        return self.id == HOST

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Device:
        """Return what `as_json` told; what others use follows from the rest."""
        return cls(**{key: data[key] for key in ("id", "name", "total", "free", "ours", "note")})

    def as_json(self) -> dict[str, Any]:
        """Return it for the database, the API and scripts."""
        return {
            "id": self.id,
            "name": self.name,
            "total": self.total,
            "ours": self.ours,
            "strangers": self.strangers,
            "free": self.free,
            "note": self.note,
        }


@dataclass(frozen=True)
class Survey:
    """A look at all devices, the host first. `problems`: a sentence for each that could not be read."""

    devices: tuple[Device, ...] = ()
    problems: tuple[str, ...] = field(default=())

    def used_by(self, pid: int) -> dict[str, int]:
        """Bytes that a server and its children use of each GPU."""
        return {
            device.id: device.users[pid]
            for device in self.devices
            if device.users.get(pid) and not device.is_host
        }

    @classmethod
    def of_all(cls, surveys: Iterable[Survey]) -> Survey:
        """Return what several looks have found, in their order."""
        found = tuple(surveys)
        return cls(
            tuple(device for survey in found for device in survey.devices),
            tuple(problem for survey in found for problem in survey.problems),
        )

    def as_json(self) -> dict[str, Any]:
        return {"devices": [device.as_json() for device in self.devices], "problems": list(self.problems)}
