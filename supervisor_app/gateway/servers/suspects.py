"""Suspects: requests that may kill servers. Pure.

A crash makes suspects of all requests in flight. Suspicion is not guilt: a request that was in flight in a
second crash goes alone from then on, and only a request that was alone when its server died is put into
quarantine. An end that came from outside makes no suspects.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.gateway.records.record import QuarantineEntry

QUARANTINE_SECONDS = 3600.0
MAX_QUARANTINED = 10_000
MAX_SUSPECTS = 1000
CRASHES_UNTIL_SOLO = 2
MAX_KILLED = 16
KILLERS_UNTIL_PAUSE = 3
"""Different requests of one API key that each killed a server: then the key is paused."""
PAUSE_SECONDS = 600.0
"""Length of the pause, from the latest of these requests on."""
KEY_CRASHES = 4
"""Crashes in an hour with requests of one API key alone in flight, which need not be the same."""
MAX_DEATHS = 5
"""Ends of any kind after which a request is not sent again."""


class Verdict(Enum):
    """Decision over a request whose server died under it."""

    AGAIN = auto()
    ALONE = auto()
    QUARANTINE = auto()
    ENOUGH = auto()
    """The request has been tried often enough, although no request is to blame."""


@dataclass(slots=True)
class Suspicion:
    """Crashes that one request was in."""

    crashes: int = 0
    """Crashes that may have been its fault."""
    deaths: int = 0
    """All ends of servers that it was in."""
    pending: int = 0
    """Losses whose cause is not known yet."""
    cleared: bool = False
    """The request was answered after all."""
    killed: list[tuple[str, int]] = field(default_factory=list)
    """Name of the server and pid for each crash that may have been its fault."""

    @property
    def goes_alone(self) -> bool:
        return self.crashes + self.pending >= CRASHES_UNTIL_SOLO

    def died(self, *, blameless: bool, alone: bool, server: str = "", pid: int | None = None) -> Verdict:
        """Note that a server died under the request. `alone`: no other was in flight there."""
        if pid is not None and (server, pid) in self.killed:  # the request was sent there several times
            return Verdict.ALONE if self.goes_alone else Verdict.AGAIN
        self.deaths += 1
        if not blameless:
            self.crashes += 1
            if pid is not None:
                self.killed = [*self.killed, (server, pid)][-MAX_KILLED:]
            if alone and self.crashes > CRASHES_UNTIL_SOLO:
                return Verdict.QUARANTINE
        if self.deaths >= MAX_DEATHS:
            return Verdict.ENOUGH
        return Verdict.ALONE if self.goes_alone else Verdict.AGAIN


class Suspects:
    """Suspicions of requests that ended before they were judged: their clients will send them again.

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
        """Clear a request: its server has answered and runs on."""
        self.entries.pop(body_hash, None)

    def refresh(self) -> None:
        """Do nothing: one process has no other workers to hear from."""


class Quarantine:
    """Requests not to be sent for a while, by the hash of path and body. Bounded: the oldest goes first."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, QuarantineEntry] = OrderedDict()
        self._pauses: dict[int, float] | None = None
        """Unix seconds until which each API key is paused; None: to be worked out."""

    def add(self, entry: QuarantineEntry) -> None:
        self._pauses = None
        self.entries[entry.body_hash] = entry
        while len(self.entries) > MAX_QUARANTINED:
            self.entries.popitem(last=False)

    def replace(self, entries: Iterable[QuarantineEntry]) -> None:
        """Take over the entries of all gateways together."""
        self._pauses = None
        self.entries = OrderedDict((entry.body_hash, entry) for entry in entries)

    def paused_until(self, key: int, now: float) -> float | None:
        """Unix seconds at which this API key may be used again; None: it is not paused.

        The pause follows from the entries alone, so all gateways agree, and to release an entry ends it.
        """
        if self._pauses is None:
            self._pauses = pauses_of(self.entries.values())
        until = self._pauses.get(key, 0.0)
        return until if until > now else None

    def find(self, body_hash: str, now: float) -> QuarantineEntry | None:
        entry = self.entries.get(body_hash)
        return entry if entry is not None and entry.until > now else None

    def refresh(self) -> None:
        """Do nothing: one process has no other workers to hear from."""


def pauses_of(entries: Iterable[QuarantineEntry]) -> dict[int, float]:
    """Unix seconds until which API keys are paused that have sent several requests which killed servers."""
    killers: dict[int, list[float]] = {}
    for entry in entries:
        if entry.key is not None:
            times = [entry.at] * (KILLERS_UNTIL_PAUSE if entry.body_hash == hash_of_key(entry.key) else 1)
            killers.setdefault(entry.key, []).extend(times)
    return {
        key: max(times) + PAUSE_SECONDS for key, times in killers.items() if len(times) >= KILLERS_UNTIL_PAUSE
    }


class Keys:
    """Crashes during which requests of one API key alone were in flight. Each process counts for itself.

    A client that changes its request each time, and hangs up when it is lost, is known by nothing else.
    """

    def __init__(self) -> None:
        self._crashes: dict[int, dict[tuple[str, int], float]] = {}

    def crashed(self, key: int, server: str, pid: int, now: float) -> tuple[tuple[str, int], ...]:
        """Count a crash. Returns all recent ones of the key, once they are too many; else nothing."""
        crashes = self._crashes.setdefault(key, {})
        crashes[server, pid] = now
        recent = {death: at for death, at in crashes.items() if now - at < QUARANTINE_SECONDS}
        self._crashes[key] = recent
        if len(recent) < KEY_CRASHES:
            return ()
        del self._crashes[key]
        return tuple(recent)

    def explained(self, key: int, deaths: Iterable[tuple[str, int]]) -> None:
        """Count these deaths no longer: a request of the key was found guilty of them."""
        for death in deaths:
            self._crashes.get(key, {}).pop(death, None)


def hash_of_key(key: int) -> str:
    """Stand-in for the hash of a request: all requests of this API key."""
    return f"key {key}"


def hash_of(path: str, body: bytes | memoryview, key: int | None = None) -> str:
    """Hash by which a request is known again. The sender counts, or one client could frame another.

    `key`: of the API key. Hexadecimal.
    """
    sender = "" if key is None else f"{key} "
    person = blake2b(f"{sender}{path}".encode(), digest_size=16).digest()
    return blake2b(body, digest_size=32, person=person).hexdigest()
