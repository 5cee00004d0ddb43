"""Which request kills servers? Pure.

A crash suspects all that were in flight. Suspicion is not guilt: whoever was in flight in a second crash goes
alone from then on, and only one that was alone when its server died is put into quarantine. An end that came
from outside suspects nobody.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import blake2b

from supervisor_app.gateway.records.record import QuarantineEntry

QUARANTINE_SECONDS = 3600.0
MAX_QUARANTINED = 10_000
MAX_SUSPECTS = 1000
CRASHES_UNTIL_SOLO = 2
MAX_DEATHS = 5
"""Whatever they were: a request that has seen so many is not sent again."""


class Verdict(Enum):
    """What becomes of a request whose server died under it."""

    AGAIN = auto()
    ALONE = auto()
    QUARANTINE = auto()
    ENOUGH = auto()
    """Nobody is to blame, but it has been tried often enough."""


@dataclass(slots=True)
class Suspicion:
    """What one request was in."""

    crashes: int = 0
    """That may have been its fault."""
    deaths: int = 0
    """All."""
    pending: int = 0
    """Losses of which nobody knows yet what they were."""
    cleared: bool = False
    """It was answered after all."""

    @property
    def goes_alone(self) -> bool:
        return self.crashes + self.pending >= CRASHES_UNTIL_SOLO

    def died(self, *, blameless: bool, alone: bool) -> Verdict:
        """Another server died under it; `alone`: nobody else was in flight there."""
        self.deaths += 1
        if not blameless:
            self.crashes += 1
            if alone and self.crashes > CRASHES_UNTIL_SOLO:
                return Verdict.QUARANTINE
        if self.deaths >= MAX_DEATHS:
            return Verdict.ENOUGH
        return Verdict.ALONE if self.goes_alone else Verdict.AGAIN


class Suspects:
    """What is thought of requests that ended before it was known: their clients will send them again.

    By the hash of path and body, for as long as a quarantine lasts. Bounded: the oldest goes first.
    """

    def __init__(self) -> None:
        self.entries: OrderedDict[str, tuple[Suspicion, float]] = OrderedDict()

    def note(self, body_hash: str, suspicion: Suspicion, now: float) -> None:
        self.entries.pop(body_hash, None)
        self.entries[body_hash] = suspicion, now + QUARANTINE_SECONDS
        while len(self.entries) > MAX_SUSPECTS:
            self.entries.popitem(last=False)

    def find(self, body_hash: str, now: float) -> Suspicion | None:
        suspicion, until = self.entries.get(body_hash, (None, 0.0))
        if suspicion is not None and until <= now:
            del self.entries[body_hash]
            return None
        return suspicion

    def acquit(self, body_hash: str) -> None:
        """It was answered, and its server lives."""
        self.entries.pop(body_hash, None)

    def refresh(self) -> None:
        """One process has nobody to hear from."""


class Quarantine:
    """What is not sent again for a while, by the hash of path and body. Bounded: the oldest goes first."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, QuarantineEntry] = OrderedDict()

    def add(self, entry: QuarantineEntry) -> None:
        self.entries[entry.body_hash] = entry
        while len(self.entries) > MAX_QUARANTINED:
            self.entries.popitem(last=False)

    def replace(self, entries: Iterable[QuarantineEntry]) -> None:
        """What all gateways together know."""
        self.entries = OrderedDict((entry.body_hash, entry) for entry in entries)

    def find(self, body_hash: str, now: float) -> QuarantineEntry | None:
        entry = self.entries.get(body_hash)
        return entry if entry is not None and entry.until > now else None

    def refresh(self) -> None:
        """One process has nobody to hear from."""


def hash_of(path: str, body: bytes | memoryview) -> str:
    """What makes two requests the same one. Hexadecimal."""
    person = blake2b(path.encode(), digest_size=16).digest()
    return blake2b(body, digest_size=32, person=person).hexdigest()
