"""A repository of the hub: its quantizations with all their parts, and its projectors. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from supervisor_app.library.model import part_of
from supervisor_app.library.quantization import named_quantization
from supervisor_app.library.shelf import is_projector

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_QUANTIZATION = "Q4_K_M"
"""Chosen where nobody names one, as llama-server's `-hf` does."""
LONGEST_PATH = 300
_NAME = r"[A-Za-z0-9][\w.-]{0,95}"
_REPOSITORY = re.compile(rf"{_NAME}/{_NAME}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,99}", re.ASCII)
_COMPONENT = re.compile(r"[^/\\\x00-\x1f\x7f]+")


class WrongNameError(ValueError):
    """A name that no repository can have; the text is a sentence."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file of a repository. `sha256` empty: the hub tells none."""

    path: str
    size: int
    sha256: str = ""

    def as_json(self) -> list[Any]:
        """Return the file for a column."""
        return [self.path, self.size, self.sha256]

    @classmethod
    def from_json(cls, said: Iterable[Any]) -> Remote:
        """Return what `as_json` told."""
        path, size, sha256 = said
        return cls(path=str(path), size=int(size), sha256=str(sha256))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A model of a repository: one file, or all parts of one."""

    label: str
    """Quantization, or the name of the file where that tells none, or where several share one."""
    files: tuple[Remote, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A revision of a repository, as the hub lists it."""

    repository: str
    commit: str
    choices: tuple[Choice, ...]
    projectors: tuple[Remote, ...] = ()

    def choice(self, label: str) -> Choice | None:
        """Find a choice by its label, in any case; empty: Q4_K_M, else the first."""
        wanted = label.upper()
        named = [choice for choice in self.choices if choice.label.upper() == wanted]
        if not label:
            named = [each for each in self.choices if each.label == DEFAULT_QUANTIZATION]
            named = named or list(self.choices[:1])
        return named[0] if named else None

    def as_json(self) -> dict[str, Any]:
        """Return the listing for another process."""
        return {
            "repository": self.repository,
            "commit": self.commit,
            "choices": [[each.label, [file.as_json() for file in each.files]] for each in self.choices],
            "projectors": [file.as_json() for file in self.projectors],
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Listing:
        """Return what `as_json` told."""
        return cls(
            repository=said["repository"],
            commit=said["commit"],
            choices=tuple(
                Choice(label=label, files=tuple(map(Remote.from_json, files)))
                for label, files in said["choices"]
            ),
            projectors=tuple(map(Remote.from_json, said["projectors"])),
        )


def checked_repository(said: str) -> str:
    """Return the name of a repository, also from the address of its page. Raises WrongNameError."""
    name = re.sub(r"^(?:https?://[^/]+/|hf\.co/|huggingface\.co/)", "", said.strip()).strip("/")
    name = "/".join(name.split("/")[:2])
    if not _REPOSITORY.fullmatch(name) or ".." in name or "--" in name:
        raise WrongNameError(f"{said[:100]!r} is no repository: write OWNER/NAME, as its page shows them.")
    return name


def checked_revision(said: str) -> str:
    """Return the name of a revision. Raises WrongNameError."""
    if not _REVISION.fullmatch(said) or ".." in said:
        raise WrongNameError(f"{said[:100]!r} is no revision: write a branch, a tag or a commit.")
    return said


def taken_apart(said: str) -> tuple[str, str]:
    """Return repository and quantization of `OWNER/NAME:QUANT`. Raises WrongNameError."""
    address = re.match(r"https?://[^/]+/", said)
    start = address.end() if address else 0
    name, _, quantization = said[start:].partition(":")
    return checked_repository(name), quantization.strip()


def is_safe(path: str) -> bool:
    """Tell whether a file may be written under this name: a path that leads down, to a GGUF file."""
    parts = path.split("/")
    return (
        len(path) <= LONGEST_PATH
        and path.endswith(".gguf")
        and all(_COMPONENT.fullmatch(part) and not part.startswith(".") for part in parts)
    )


def listed(repository: str, commit: str, files: Iterable[Remote]) -> Listing:
    """Put the parts of each model together. Other files, and those with an unsafe name, are left out."""
    models: dict[tuple[str, int], list[Remote]] = {}
    projectors = []
    for file in sorted(files, key=lambda each: each.path):
        if not is_safe(file.path):
            continue
        if is_projector(PurePosixPath(file.path).name):
            projectors.append(file)
        else:
            stem, _, count = part_of(file.path) or (file.path.removesuffix(".gguf"), 1, 1)
            models.setdefault((stem, count), []).append(file)
    whole = {key: parts for key, parts in models.items() if len(parts) == key[1]}
    quantizations = Counter(named_quantization(PurePosixPath(stem).name) for stem, _ in whole)
    choices = [
        Choice(label=_label(stem, quantizations), files=tuple(parts)) for (stem, _), parts in whole.items()
    ]
    return Listing(
        repository=repository,
        commit=commit,
        choices=tuple(sorted(choices, key=lambda choice: (choice.size, choice.label))),
        projectors=tuple(projectors),
    )


def _label(stem: str, quantizations: Counter[str]) -> str:
    name = PurePosixPath(stem).name
    quantization = named_quantization(name)
    return quantization if quantization and quantizations[quantization] == 1 else name
