"""Saved contexts: conversations of a server as files, and what they stand on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

FORMAT = 1
"""Version of the list beside the files."""


@dataclass(frozen=True, kw_only=True)
class Basis:
    """Everything that must be the same for a context to mean the same. Digests, but for `build`."""

    model: str
    """Files: where they are, how large, when they were changed."""
    flags: str
    build: str
    """Build of the engine, as it says itself, and its file."""
    changed_at: float
    """Last change of a file or the engine, in Unix seconds."""
    boot: str
    """Boot of the machine: a power cut may leave files that are not whole."""


@dataclass(frozen=True, kw_only=True)
class SavedSlot:
    """File of one conversation."""

    id: int
    """Number of its slot."""
    file: str
    """Name within the folder of its server."""
    tokens: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class SavedContext:
    """List of what was saved of a server. Only files that it names are ever restored."""

    basis: Basis
    saved_at: float
    """Unix seconds."""
    slots: tuple[SavedSlot, ...]

    def as_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def parse(cls, text: str) -> SavedContext:
        """Raises ValueError for anything that `as_json` has not written."""
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise ValueError(f"its format is {data['format']!r}")
            return cls(
                basis=Basis(**data["basis"]),
                saved_at=float(data["saved_at"]),
                slots=tuple(SavedSlot(**slot) for slot in data["slots"]),
            )
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"it is no list of saved slots: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Result of saving or restoring the conversations of a server."""

    tokens: tuple[int, ...] = ()
    """Tokens of each conversation that was saved, or restored."""
    lost: int = 0
    """Number of conversations that there were beside them, and that are not kept."""
    bytes: int = 0
    seconds: float = 0.0
    problem: str = ""
    """Reason for what is lost, as part of a sentence; empty: nothing went wrong."""

    @property
    def total(self) -> int:
        return len(self.tokens) + self.lost

    @property
    def is_news(self) -> bool:
        return bool(self.total or self.problem)
