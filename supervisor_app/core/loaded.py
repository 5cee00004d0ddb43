"""The time that a server took to load, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from supervisor_app.common.words import tenths

if TYPE_CHECKING:
    from collections.abc import Mapping


class RoomOutcome(StrEnum):
    """Decision about a server's room in memory, as it is counted."""

    EVICTED = "evicted"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Parts of a start, in milliseconds, one after the other."""

    room_ms: int = 0
    """Time from the question for room in memory until there was some."""
    load_ms: int
    """Time from then until the server was ready."""
    made_room: tuple[str, ...] = ()
    """Names of the servers that ended for it."""

    @property
    def sentence(self) -> str:
        """The parts in words: "Loaded in 1.7 s: 0.1 s until `coder` had made room, 1.6 s to load."."""
        whole = f"Loaded in {tenths((self.room_ms + self.load_ms) / 1000)}"
        if not self.made_room and self.room_ms < LEAST_WAIT_MS:
            return f"{whole}."
        waited = tenths(self.room_ms / 1000)
        made = f"until {_listed(self.made_room)} had made room" if self.made_room else "until there was room"
        return f"{whole}: {waited} {made}, {tenths(self.load_ms / 1000)} to load."

    def as_json(self) -> dict[str, Any]:
        return {"roomMs": self.room_ms, "loadMs": self.load_ms, "madeRoom": list(self.made_room)}


LEAST_WAIT_MS = 100
"""A shorter wait for room is not worth a word."""


def loaded_from_json(data: Mapping[str, Any]) -> Loaded | None:
    """Return the parts as they were kept; None where nobody has measured any."""
    if "loadMs" not in data:
        return None
    return Loaded(
        room_ms=int(data.get("roomMs", 0)),
        load_ms=int(data["loadMs"]),
        made_room=tuple(map(str, data.get("madeRoom", ()))),
    )


def _listed(names: tuple[str, ...]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))
