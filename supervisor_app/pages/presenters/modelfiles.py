"""Models on disk as the page shows them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from supervisor_app.modelfiles.removal import why_kept

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.modelfiles.models import ModelFile

_STEPS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """A model. `can_delete`: staff may ask for that now; if not, `kept` says why."""

    file: ModelFile
    parameters: str
    context: str
    verdict: str
    tone: str
    is_going: bool
    kept: str

    @property
    def can_delete(self) -> bool:
        return not self.is_going and not self.kept

    @property
    def label(self) -> str:
        """Name for a question about the model: two quantizations may share a name."""
        return " ".join(filter(None, (self.file.name, self.file.quantization)))

    @property
    def folder(self) -> str:
        return str(Path(self.file.path).parent)

    @property
    def filename(self) -> str:
        return Path(self.file.path).name


@dataclass(frozen=True, kw_only=True)
class NodeModels:
    """Models of a node. `size`: bytes of all files."""

    node: str
    rows: tuple[ModelRow, ...]

    @property
    def size(self) -> int:
        return sum(row.file.size for row in self.rows)


def nodes_of(files: Iterable[ModelFile]) -> list[NodeModels]:
    """Sort models by their nodes, keeping their order."""
    nodes: dict[str, list[ModelRow]] = {}
    for file in files:
        nodes.setdefault(file.node, []).append(row_of(file))
    return [NodeModels(node=node, rows=tuple(rows)) for node, rows in sorted(nodes.items())]


def row_of(file: ModelFile) -> ModelRow:
    """Return a model as the page shows the row."""
    word, tone = verdict(fits=file.fits, said=file.fit, problem=file.problem)
    return ModelRow(
        file=file,
        parameters=short_count(file.parameters),
        context=f"{file.context:,}".replace(",", " ") if file.context else "",
        verdict=word,
        tone=tone,
        is_going=file.delete_wished_at is not None,
        kept=why_kept(file),
    )


def verdict(*, fits: bool | None, said: str, problem: str = "") -> tuple[str, str]:
    """Return whether a model fits in a word, and its tone."""
    if problem:
        return _("cannot be read"), "bad"
    match fits:
        case True:
            return _("fits"), "up"
        case False:
            return _("does not fit"), "bad"
        case _:
            return (_("perhaps"), "warn") if said else (_("not known"), "calm")


def short_count(count: int) -> str:
    """Return a number of parameters as people say it: `7.6B`, `494M`; empty for none."""
    for step, letter in _STEPS:
        if count >= step:
            value = count / step
            return f"{value:.1f}{letter}" if value < 9.95 else f"{value:.0f}{letter}"
    return str(count) if count else ""
