"""The words of a llama-server about its models. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

Entry = Mapping[str, Any]
MOST_MODELS = 5000
LONGEST_NAME = 1000
"""Characters of a name: what is longer is none."""
UNTOLD = frozenset({"args", "preset"})
"""Fields of a status that are not passed on: how a router starts a model is full of paths and ports."""
ON_ITS_WAY = frozenset({"loading", "downloading"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The last answer to `GET /v1/models` that was not the same as the one before."""

    data: tuple[Entry, ...] = ()
    models: tuple[Entry, ...] = ()
    """List the models in Ollama's form; a router has none."""
    is_router: bool = False
    """True of a server that uses the model that it is asked for; each of its models has a status."""
    read_at: float = 0.0
    """Unix seconds; 0: it was never read, only names of models are known."""

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(entry["id"] for entry in self.data)

    @property
    def names(self) -> tuple[str, ...]:
        """All names by which one of the models can be asked for."""
        return tuple(dict.fromkeys(name for entry in self.data for name in names_of(entry)))

    @property
    def is_changing(self) -> bool:
        """A model is being loaded: soon there will be more to say."""
        return any(_value(entry) in ON_ITS_WAY for entry in self.data)

    def entry(self, model: str) -> Entry | None:
        """The entry of the model with this name."""
        return next((entry for entry in self.data if model in names_of(entry)), None)

    def says_the_same(self, other: Listing) -> bool:
        """Compare all but the time, which llama-server puts into each answer anew."""
        return (
            self.is_router == other.is_router
            and self.models == other.models
            and [_timeless(entry) for entry in self.data] == [_timeless(entry) for entry in other.data]
        )

    def as_json(self) -> dict[str, Any]:
        return {"data": list(self.data), "models": list(self.models), "is_router": self.is_router}


def listing_of(told: Any, read_at: float) -> Listing:
    """`told`: the answer. Raises ValueError when it is no list of models."""
    if not isinstance(told, dict) or not isinstance(told.get("data"), list):
        raise ValueError("it is no list of models")
    data = tuple(_checked(entry) for entry in told["data"][:MOST_MODELS] if _name(entry, "id"))
    in_ollamas_form = told.get("models")
    models = in_ollamas_form if isinstance(in_ollamas_form, list) else []
    return Listing(
        data=data,
        models=tuple(each for each in models[:MOST_MODELS] if _name(each, "name")),
        is_router="models" not in told and all(isinstance(each.get("status"), dict) for each in data),
        read_at=read_at,
    )


def listing_of_json(kept: Any, read_at: float) -> Listing:
    """Read what `as_json` has made."""
    return Listing(
        data=tuple(kept["data"]),
        models=tuple(kept["models"]),
        is_router=kept["is_router"],
        read_at=read_at,
    )


def listing_of_names(names: Iterable[str], *, is_router: bool) -> Listing:
    """Make a listing where no more is known than names."""
    return Listing(data=tuple({"id": name} for name in names), is_router=is_router)


def names_of(entry: Entry) -> tuple[str, ...]:
    """The id of a model and its aliases."""
    aliases = entry.get("aliases")
    found = [name for name in aliases if _is_name(name)] if isinstance(aliases, list) else []
    return tuple(dict.fromkeys([entry["id"], *found]))


def is_path(name: str) -> bool:
    """A place in somebody's file system, which is no name to show to others."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return posix.is_absolute() or bool(windows.anchor) or name.startswith(("./", "../", ".\\", "..\\", "~"))


def read_json(content: bytes) -> Any:
    """Raises ValueError, RecursionError."""
    return json.loads(content)


def _checked(entry: dict[str, Any]) -> Entry:
    status = entry.get("status")
    if not isinstance(status, dict):
        return entry
    return {**entry, "status": {key: value for key, value in status.items() if key not in UNTOLD}}


def _name(entry: Any, key: str) -> bool:
    return isinstance(entry, dict) and _is_name(entry.get(key))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME


def _value(entry: Entry) -> Any:
    status = entry.get("status")
    return status.get("value") if isinstance(status, dict) else None


def _timeless(entry: Entry) -> Entry:
    return {key: value for key, value in entry.items() if key != "created"}
