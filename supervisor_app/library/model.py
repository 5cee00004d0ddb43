"""A model in one file or in parts: what llama-server loads when it is given the first of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisor_app.library.header import Header, HeaderError, Tensor, read_header

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MOST_PARTS = 1000
_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


class ModelError(ValueError):
    """A model that cannot be read; the text is a whole sentence."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """All parts together. `file_size` in bytes."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    file_size: int

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    @property
    def weights(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)


def part_of(name: str) -> tuple[str, int, int] | None:
    """Read the name of a part: its stem, its number and how many parts there are. None: the file is whole."""
    found = _PART.fullmatch(name)
    if found is None or not 0 < int(found["number"]) <= int(found["count"]) <= MOST_PARTS:
        return None
    return found["stem"], int(found["number"]), int(found["count"])


def read_model(path: Path) -> Model:
    """Read the headers of a model and of its other parts. Raises ModelError."""
    first = _header(path)
    parts = [first, *(_header(other) for other in _other_parts(path, first))]
    return Model(
        path=path,
        metadata=first.metadata,
        tensors=tuple(tensor for part in parts for tensor in part.tensors),
        file_size=sum(part.file_size for part in parts),
    )


def _header(path: Path) -> Header:
    try:
        return read_header(path)
    except HeaderError as error:
        raise ModelError(f"{path} cannot be read as a model: {error}.") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from error


def _other_parts(path: Path, first: Header) -> list[Path]:
    """Find the other parts where llama-server does: beside the first, with another number in their names."""
    count = first.metadata.get("split.count", 0)
    if not isinstance(count, int) or count < 2:
        return []
    if count > MOST_PARTS:
        raise ModelError(f"{path} claims to be one of {count} parts; at most {MOST_PARTS} are read.")
    if first.metadata.get("split.no", 0) != 0:
        raise ModelError(f"{path} is not the first of its {count} parts: name the one with -00001-of- in it.")
    name = _PART.fullmatch(path.name)
    if name is None or int(name["count"]) != count:
        raise ModelError(
            f"{path} is the first of {count} parts, but is not called …-00001-of-{count:05}.gguf,"
            " so llama-server would not find the others."
        )
    return [
        path.with_name(f"{name['stem']}-{number:05}-of-{count:05}.gguf") for number in range(2, count + 1)
    ]
