"""Devices, and strangers who take memory of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from supervisor_app.core.devices import HOST
from supervisor_app.core.placement.world import Budget

if TYPE_CHECKING:
    from tests.simulation.chance import Chance
    from tests.simulation.placement.timeline import Timeline

GIB = 1024**3
RESERVE = 0.05
LEAST_RESERVE = GIB // 2


@dataclass
class Device:
    """Memory as it is, not as anybody believes it to be."""

    id: str
    total: int
    ours: int = 0
    strangers: int = 0

    @property
    def free(self) -> int:
        return self.total - self.ours - self.strangers

    @property
    def budget(self) -> Budget:
        reserve = max(LEAST_RESERVE, int(self.total * RESERVE))
        return Budget(
            device=self.id, name=self.id, total=self.total, reserve=reserve, strangers=self.strangers
        )


@dataclass
class Machine:
    """A host with up to two GPUs."""

    devices: dict[str, Device] = field(default_factory=dict)

    @classmethod
    def by(cls, chance: Chance) -> Machine:
        gpus = [f"gpu{number}" for number in range(chance.randrange(3))]
        sizes = {HOST: chance.choice([16, 32, 64]), **{gpu: chance.choice([8, 16, 24, 48]) for gpu in gpus}}
        return cls({name: Device(name, size * GIB) for name, size in sizes.items()})

    @property
    def gpus(self) -> list[str]:
        return [name for name in self.devices if name != HOST]

    def budgets(self) -> tuple[Budget, ...]:
        return tuple(device.budget for device in self.devices.values())

    def invite_strangers(self, chance: Chance, timeline: Timeline, until: float) -> None:
        """From time to time a stranger takes a part of what is free, and gives it back after a while."""
        for device in self.devices.values():
            for _ in range(chance.randrange(4)):
                part, stays = chance.random() * 0.6, chance.about(20, 200)
                _plan_visit(device, part, stays, chance.random() * until, timeline)


def _plan_visit(device: Device, part: float, stays: float, at: float, timeline: Timeline) -> None:
    def come() -> None:
        taken = int(device.free * part)
        device.strangers += taken
        timeline.after(stays, lambda: go(taken))

    def go(taken: int) -> None:
        device.strangers -= taken

    timeline.at(at, come)
