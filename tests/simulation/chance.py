"""Chance that a seed decides."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

Option = TypeVar("Option")


class Chance(random.Random):
    def hits(self, probability: float) -> bool:
        return self.random() < probability

    def about(self, *seconds: float) -> float:
        """Choose one of the times, give or take a half of it."""
        return self.choice(seconds) * (0.5 + self.random())

    def one_of(self, options: Sequence[tuple[float, Option]], rarity: float = 1.0) -> Option | None:
        """Each as often as its number says, `rarity` times as seldom; None: none of them."""
        left = self.random() * rarity
        for probability, option in options:
            left -= probability
            if left < 0:
                return option
        return None

    def pieces(self, data: bytes) -> list[bytes]:
        """Cut the data anywhere, up to three times."""
        cuts = sorted(self.randrange(0, len(data) + 1) for _ in range(self.randrange(1, 4)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


def chance_of(*what: object) -> Chance:
    """Always the same for the same: so the two runs of a seed meet the same, whatever was asked in between."""
    return Chance(repr(what))
