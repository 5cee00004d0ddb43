"""Downloads, and the quantizations of a repository, as the page shows them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from supervisor_app.common.words import left, part_of, size
from supervisor_app.modelfiles.fitting import fit_of_size
from supervisor_app.modelfiles.models import State
from supervisor_app.modelfiles.steps import ENDED, wishes_of
from supervisor_app.pages.presenters.modelfiles import verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor_app.core.devices import Device
    from supervisor_app.core.memory_rules import MemoryRules
    from supervisor_app.library.hub.repository import Choice, Listing
    from supervisor_app.modelfiles.models import Download

TONES = {
    State.WANTED: "calm",
    State.RUNNING: "busy",
    State.PAUSED: "warn",
    State.DONE: "up",
    State.FAILED: "bad",
    State.CANCELLED: "calm",
}
LISTED_ENDS = 5
"""Downloads that are over, of which the newest are listed."""


@dataclass(frozen=True, kw_only=True)
class Button:
    """A wish that can be pressed."""

    wish: str
    word: str


@dataclass(frozen=True, kw_only=True)
class DownloadRow:
    """A download. `said`: how far it is, or why it is not."""

    row: Download
    word: str
    tone: str
    said: str
    buttons: tuple[Button, ...]

    @property
    def shows_bar(self) -> bool:
        return bool(self.row.total) and self.row.state not in (State.DONE, State.CANCELLED)

    @property
    def label(self) -> str:
        return self.row.chosen or self.row.label


@dataclass(frozen=True, kw_only=True)
class ChoiceRow:
    """A quantization that can be downloaded."""

    choice: Choice
    verdict: str
    tone: str
    fit: str


def rows_of(downloads: Iterable[Download]) -> list[DownloadRow]:
    """Return those that go on, in their order, then the newest that are over."""
    found = list(downloads)
    going = [row for row in found if row.state not in ENDED]
    over = [row for row in reversed(found) if row.state in ENDED]
    return [row_of(row) for row in (*going, *over[:LISTED_ENDS])]


def row_of(row: Download) -> DownloadRow:
    """Return a download as the page shows the row."""
    state = State(row.state)
    return DownloadRow(
        row=row,
        word=_words()[state],
        tone=TONES[state],
        said=said_of(row),
        buttons=tuple(Button(wish=wish, word=_buttons()[wish]) for wish in wishes_of(state)),
    )


def said_of(row: Download) -> str:
    """Return how far a download is, or why it is not."""
    if row.state == State.FAILED:
        return row.error
    if row.state in (State.DONE, State.CANCELLED):
        return size(row.total) if row.total else ""
    far = part_of(row.done, row.total) if row.total else ""
    if row.trouble:
        return " · ".join(filter(None, (far, row.trouble)))
    if row.state == State.RUNNING and row.speed:
        return f"{far} · {size(row.speed)}/s · {left((row.total - row.done) / row.speed)}"
    if row.state == State.RUNNING and not row.total:
        return _("Asking the hub.")
    return far


def choices_of(listing: Listing, devices: Sequence[Device], rules: MemoryRules) -> list[ChoiceRow]:
    """Return the quantizations of a repository, the smallest first, each with whether it fits."""
    rows = []
    for choice in listing.choices:
        fit = fit_of_size(choice.size, devices, rules)
        word, tone = verdict(fits=fit.fits, said=fit.sentence)
        rows.append(ChoiceRow(choice=choice, verdict=word, tone=tone, fit=fit.sentence))
    return rows


def _words() -> dict[State, str]:
    return {
        State.WANTED: _("waiting"),
        State.RUNNING: _("downloading"),
        State.PAUSED: _("paused"),
        State.DONE: _("on disk"),
        State.FAILED: _("failed"),
        State.CANCELLED: _("cancelled"),
    }


def _buttons() -> dict[str, str]:
    return {
        "pause": _("Pause"),
        "resume": _("Resume"),
        "cancel": _("Cancel"),
        "retry": _("Retry"),
    }
