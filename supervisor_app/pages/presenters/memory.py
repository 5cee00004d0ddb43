"""Memory of devices: how much which server holds, others hold, and is free. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from supervisor_app.common.words import size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.devices import Device

LEAST_SHARE = 0.005
"""Part of a device below which what is ours, and of no known server, is not worth a part."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A part of a device's memory. `x` and `width`: its place in a bar, in percent."""

    holder: str
    kind: str
    """`server`, `ours` (of no known server), `others` or `free`."""
    count: int
    x: float
    width: float

    @property
    def amount(self) -> str:
        """Return how much it is, and that it is little where the bar hardly shows it."""
        return f"{size(self.count)} (<1 %)" if self.kind == "server" and self.width < 1 else size(self.count)

    @property
    def said(self) -> str:
        return f"{self.holder} {self.amount}"


@dataclass(frozen=True, kw_only=True)
class DeviceMemory:
    """A device with the parts of its memory, from the largest server to what is free."""

    device: Device
    shares: tuple[Share, ...]

    @property
    def servers(self) -> tuple[Share, ...]:
        return tuple(share for share in self.shares if share.kind == "server")

    @property
    def sentence(self) -> str:
        """Return the whole bar in words."""
        return f"{self.device.name}: {', '.join(share.said for share in self.shares)}."


def memory_of(
    device: Device, needs: Mapping[str, int], used: Mapping[str, int] | None = None
) -> DeviceMemory:
    """Divide a device. Servers have the bytes that they were seen to use (`used`), else those that they need.

    The look of now says how much is ours: where servers need more than is left of that, they share it in
    proportion, and those that were seen a moment before to use more than that have narrower parts.
    """
    seen = {name: count for name, count in (used or {}).items() if count > 0}
    guessed = {name: count for name, count in needs.items() if name not in seen}
    fits, left = _scale(seen, device.ours), max(0, device.ours - sum(seen.values()))
    scale = _scale(guessed, left)
    held = {name: (count, count * fits) for name, count in seen.items()}
    held |= {name: (int(count * scale), count * scale) for name, count in guessed.items()}
    parts = [
        (name, "server", count, room)
        for name, (count, room) in sorted(held.items(), key=lambda item: (-item[1][0], item[0]))
    ]
    rest = device.ours - int(sum(room for *_, room in parts))
    rest = rest if rest > LEAST_SHARE * device.total or not held else 0
    parts += [
        (_("other of ours") if held else _("ours"), "ours", rest, rest),
        (_("others"), "others", device.strangers, device.strangers),
        (_("free"), "free", device.free, device.free),
    ]
    shares, x = [], 0.0
    for holder, kind, count, room in parts:
        width = 100 * room / device.total if device.total else 0.0
        if count > 0:
            shares.append(Share(holder=holder, kind=kind, count=count, x=round(x, 2), width=round(width, 2)))
        x += width
    return DeviceMemory(device=device, shares=tuple(shares))


def _scale(counts: Mapping[str, int], room: int) -> float:
    """Return by how much all have to be smaller to have room together."""
    return min(1.0, room / sum(counts.values())) if counts else 1.0
