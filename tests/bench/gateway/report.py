"""What was measured, round by round, and how it is told: medians, and how we compare with nginx."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass

from tests.bench.gateway.planes import DIRECT, GATEWAY, NGINX


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line. `added`: less what the same round without a proxy took."""

    figure: str
    label: str
    unit: str
    aim: str = ""
    added: bool = False
    digits: int = 1


class Table:
    """Samples by figure and plane, one a round."""

    def __init__(self, planes: list[str]) -> None:
        self.planes = planes
        self._samples: dict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, plane: str, figures: dict[str, float]) -> None:
        for figure, value in figures.items():
            self._samples[figure, plane].append(value)

    def median(self, row: Row, plane: str) -> float | None:
        samples = self._samples[row.figure, plane]
        if row.added:
            without = self._samples[row.figure, DIRECT]
            samples = [] if plane == DIRECT else [a - b for a, b in zip(samples, without, strict=True)]
        return statistics.median(samples) if samples else None

    def print(self, title: str, rows: list[Row]) -> None:
        heads = "".join(f"{plane:>11}" for plane in self.planes)
        print(f"\n{title:<40}{heads} {'':<10}{'to nginx':>9}  aim")
        for row in rows:
            medians = {plane: self.median(row, plane) for plane in self.planes}
            cells = "".join(_cell(value, row.digits) for value in medians.values())
            ratio = _ratio(medians.get(GATEWAY), medians.get(NGINX))
            print(f"{row.label:<40}{cells} {row.unit:<10}{ratio:>9}  {row.aim}".rstrip(), flush=True)


def _cell(value: float | None, digits: int) -> str:
    return f"{'–':>11}" if value is None else f"{value:>11,.{digits}f}"


def _ratio(ours: float | None, base: float | None) -> str:
    return "–" if ours is None or not base or base <= 0 else f"{ours / base:.2f}×"
