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
"""Part of a device below which a server is not worth a line."""


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
    def said(self) -> str:
        return f"{self.holder} {size(self.count)}"


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


def memory_of(device: Device, holders: Mapping[str, int]) -> DeviceMemory:
    """Divide a device. `holders`: bytes of each server by what was measured of it, some time ago.

    The look of now says how much is ours; where the servers' needs are more, they share that in proportion.
    """
    least = LEAST_SHARE * device.total
    known = {name: count for name, count in holders.items() if count > least}
    scale = min(1.0, device.ours / sum(known.values())) if known else 1.0
    parts = [
        (name, "server", int(count * scale))
        for name, count in sorted(known.items(), key=lambda item: (-item[1], item[0]))
    ]
    rest = device.ours - sum(count for _holder, _kind, count in parts)
    parts += [
        (_("other of ours") if known else _("ours"), "ours", rest if rest > least or not known else 0),
        (_("others"), "others", device.strangers),
        (_("free"), "free", device.free),
    ]
    shares, x = [], 0.0
    for holder, kind, count in parts:
        width = 100 * count / device.total if device.total else 0.0
        if count > 0:
            shares.append(Share(holder=holder, kind=kind, count=count, x=round(x, 2), width=round(width, 2)))
        x += width
    return DeviceMemory(device=device, shares=tuple(shares))
