"""Models in directories: GGUF files, the parts of a split one together, projectors beside their models."""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor_app.library.model import ModelError, part_of, read_model
from supervisor_app.library.quantization import named_quantization, numbered_quantization

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from supervisor_app.library.model import Model

MOST_FILES = 5000
"""Files that are looked at in one directory tree; a tree of more is no library of models."""
DEEPEST = 4
"""Directories below the first: owner, repository, quantization, and one to spare."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file as a look found it. `mark` differs when another one takes its place."""

    path: Path
    size: int
    modified: float
    mark: str


@dataclass(frozen=True, kw_only=True)
class Shelved:
    """A model on disk: its parts in order, and the projectors in its directory."""

    files: tuple[Stored, ...]
    projectors: tuple[Stored, ...] = ()
    missing: int = 0
    """Parts that are not there."""

    @property
    def path(self) -> Path:
        return self.files[0].path

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def modified(self) -> float:
        return max(file.modified for file in self.files)

    @property
    def mark(self) -> str:
        return " ".join(file.mark for file in (*self.files, *self.projectors))


@dataclass(frozen=True, kw_only=True)
class Described:
    """Facts of a model's header. `problem`: why there are none, as a sentence."""

    name: str
    architecture: str = ""
    quantization: str = ""
    parameters: int = 0
    context: int = 0
    problem: str = ""


def is_projector(name: str) -> bool:
    """Tell whether a file is the part of a model that sees or hears: llama.cpp names these `mmproj…`."""
    return "mmproj" in name.lower()


def models_in(directory: Path, *, deepest: int = DEEPEST) -> list[Shelved]:
    """Look for models. A directory that is not there, or that cannot be read, has none. Blocking."""
    return shelved(_stored(directory, deepest))


def shelved(files: Iterable[Stored]) -> list[Shelved]:
    """Put parts together, and projectors beside the models of their directory. Pure."""
    models: dict[tuple[Path, str, int], dict[int, Stored]] = {}
    projectors: dict[Path, list[Stored]] = {}
    for file in sorted(files, key=lambda each: each.path):
        if is_projector(file.path.name):
            projectors.setdefault(file.path.parent, []).append(file)
            continue
        stem, number, count = part_of(file.path.name) or (file.path.name, 1, 1)
        models.setdefault((file.path.parent, stem, count), {})[number] = file
    found = [
        Shelved(
            files=tuple(parts[number] for number in sorted(parts)),
            projectors=tuple(projectors.get(folder, ())),
            missing=count - len(parts),
        )
        for (folder, _, count), parts in models.items()
    ]
    alone = {folder for folder in projectors if folder not in {key[0] for key in models}}
    return [*found, *(Shelved(files=(each,)) for folder in sorted(alone) for each in projectors[folder])]


def describe(model: Shelved) -> Described:
    """Read the header of a model. Blocking."""
    stem = (part_of(model.path.name) or (model.path.name.removesuffix(".gguf"), 1, 1))[0]
    if model.missing:
        problem = f"{model.missing} of its {model.missing + len(model.files)} parts are missing."
        return Described(name=stem, quantization=named_quantization(stem), problem=problem)
    try:
        read = read_model(model.path)
    except ModelError as error:
        return Described(name=stem, quantization=named_quantization(stem), problem=str(error))
    metadata = read.metadata
    return Described(
        name=str(metadata.get("general.name") or stem)[:200],
        architecture=read.architecture[:100],
        quantization=named_quantization(stem) or numbered_quantization(metadata.get("general.file_type")),
        parameters=sum(math.prod(tensor.shape) for tensor in read.tensors),
        context=_context(read),
    )


def _context(model: Model) -> int:
    value = model.metadata.get(f"{model.architecture}.context_length", 0)
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0


def _stored(directory: Path, deepest: int) -> Iterator[Stored]:
    """Walk a tree without following links to directories: a loop would never end."""
    left, waiting = MOST_FILES, [(directory, 0)]
    while waiting and left > 0:
        folder, depth = waiting.pop()
        for entry in _entries(folder):
            left -= 1
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth < deepest:
                    waiting.append((Path(entry.path), depth + 1))
            elif entry.name.endswith(".gguf"):
                yield from look(Path(entry.path))


def _entries(folder: Path) -> Sequence[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return ()


def look(path: Path) -> Iterator[Stored]:
    """Yield a file, if there is one."""
    try:
        found = path.stat()
    except OSError:
        return
    if stat.S_ISREG(found.st_mode):
        yield Stored(path=path, size=found.st_size, modified=found.st_mtime, mark=mark_of(found))


def mark_of(found: os.stat_result) -> str:
    """Return what tells a file from another one at its place."""
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"
