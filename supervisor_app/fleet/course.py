"""Course of one server: each second a look at what is known of it, as figures. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from supervisor_app.core.devices import HOST
from supervisor_app.fleet.sample_rules import MEMORY, Figures, Growth, Thinning, works

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.core.sightings import MemorySample, Slot
    from supervisor_app.core.vitals import Vitals

FRESH_SECONDS = 15.0
"""Age from which on a look tells nothing of now: three pauses between two looks at an idle server."""

MOST = 900
"""Samples of a server that wait to be collected at most: those of 15 minutes in which it works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """All that gateways know of a server: what is in flight, and sums since somebody began to add."""

    in_flight: int = 0
    waiting: int = 0
    streaming: int = 0
    """Tokens of the answers in flight."""
    generated: int = 0
    """Tokens of the answers that ended, as the rest is of these."""
    prompt: int = 0
    cached: int = 0
    first_tokens: int = 0
    """Answers whose first token was seen."""
    first_token_ms: float = 0.0
    """Sum of the milliseconds to it."""
    later_tokens: int = 0
    later_token_ms: float = 0.0
    """Sum of the milliseconds from the first token to the last."""


@dataclass(slots=True)
class Course:
    """Remembers of one server what its figures need, and the samples that are not written yet."""

    samples: list[tuple[int, Figures]] = field(default_factory=list)
    """Samples that are not written yet, the oldest first."""
    slots: tuple[Slot, ...] = ()
    works: bool = False
    _passed: Passed | None = None
    _looked_at: float = 0.0
    _generated: Growth = field(default_factory=Growth)
    _prefilled: Growth = field(default_factory=Growth)
    _speeds: Figures = field(default_factory=dict)
    _thinning: Thinning = field(default_factory=Thinning)

    def take(self, at: float, vitals: Vitals, passed: Passed) -> None:
        """Take the figures of a second. `at`: Unix seconds."""
        figures = self._figures(at, vitals, passed)
        self._passed = passed
        self.slots, self.works = vitals.slots, works(figures)
        second = int(at)
        is_new = not self.samples or second > self.samples[-1][0]
        if is_new and self._thinning.keeps(at, figures):
            self.samples.append((second, figures))
            del self.samples[:-MOST]

    def pulse(self) -> list[dict[str, Any]]:
        """Return its slots for the database."""
        return [asdict(slot) for slot in self.slots]

    def _figures(self, at: float, vitals: Vitals, passed: Passed) -> Figures:
        slots = vitals.slots
        working = [slot for slot in slots if slot.works]
        if not working or vitals.at != self._looked_at:
            self._speeds = self._speeds_of(at, working, passed, has_slots=bool(slots))
        self._looked_at = vitals.at
        figures: Figures = {
            **self._speeds,
            "in_flight": max(passed.in_flight, len(working)),
            "waiting": passed.waiting,
        }
        if vitals.cores is not None:
            figures["cpu"] = round(vitals.cores, 3)
        if slots:
            figures["context"] = sum(slot.used for slot in slots)
            figures["context_size"] = vitals.context_size
        figures |= _memory(vitals.memory) | {f"{MEMORY}{gpu}": used for gpu, used in vitals.gpus.items()}
        return figures | answers_between(self._passed or passed, passed)

    def _speeds_of(self, at: float, working: Sequence[Slot], passed: Passed, *, has_slots: bool) -> Figures:
        """Add up what ended and what slots work at, at the time of a look: later, some would count twice.

        Records of the second before that are the newest that end with it.
        """
        ended = (self._passed or passed) if working else passed
        decoded = sum(slot.decoded for slot in working) if has_slots else passed.streaming
        processed = sum(slot.processed for slot in working)
        return {
            "generated": self._generated.speed(ended.generated + decoded, at),
            "prefilled": self._prefilled.speed(ended.prompt - ended.cached + processed, at),
        }


def _memory(sample: MemorySample | None) -> Figures:
    return {f"{MEMORY}{HOST}": sample.used, "files": sample.file} if sample is not None else {}


def answers_between(before: Passed, now: Passed) -> Figures:
    """Figures of the answers that ended between two looks; none: no answer did."""
    figures: Figures = {}
    firsts = now.first_tokens - before.first_tokens
    if firsts > 0:
        figures["ttft"] = round((now.first_token_ms - before.first_token_ms) / firsts, 1)
    later = now.later_tokens - before.later_tokens
    if later > 0:
        figures["itl"] = round((now.later_token_ms - before.later_token_ms) / later, 2)
    prompt = now.prompt - before.prompt
    if prompt > 0:
        figures["cached"] = round((now.cached - before.cached) / prompt, 3)
    return figures
