"""Figures of many worlds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.placement.node import Report


@dataclass
class Figures:
    worlds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, seed: int, report: Report) -> None:
        self.worlds += 1
        self.waits.extend(report.waits)
        self.problems.extend(f"seed {seed}: {problem}" for problem in report.problems)
        for name in ("asked", "answered", "refused", "evictions", "loads", "out_of_memory"):
            self.counts[name] += getattr(report, name)

    @property
    def evictions_per_answer(self) -> float:
        return self.counts["evictions"] / self.counts["answered"]

    @property
    def mean_wait(self) -> float:
        return sum(self.waits) / len(self.waits)

    def __str__(self) -> str:
        waits = sorted(self.waits)
        told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.counts.items())
        quantiles = " ".join(f"p{part:g} {waits[int(len(waits) * part / 100)]:.1f}" for part in (50, 95, 99))
        return (
            f"{self.worlds} worlds: {told}\n"
            f"    evictions per answer {self.evictions_per_answer:.3f}, loads {self.counts['loads'] / self.counts['answered']:.3f}\n"
            f"    wait in s: mean {self.mean_wait:.1f} {quantiles} longest {waits[-1]:.0f}; problems: {len(self.problems)}"
        )
