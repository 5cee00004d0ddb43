"""The overview: what needs attention, and the rows of servers with trouble first. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from supervisor_app.core.command_line.fetching import repository_of
from supervisor_app.core.status import DOWN, LlamaStatus, Status
from supervisor_app.pages.presenters.standing import lede, standing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor_app.fleet.snapshots import ServerView
    from supervisor_app.fleet.uptime import Bar
    from supervisor_app.traffic.live import Counts


class Help(StrEnum):
    """The one button of an entry."""

    START = "start"
    ROLL_BACK = "rollback"
    LOOK = "look"


@dataclass(frozen=True, kw_only=True)
class Attention:
    """A server that somebody should look at. `since`: Unix seconds; None where that is not known."""

    tone: str
    what: str
    since: float | None
    why: str
    help: Help


@dataclass(frozen=True, kw_only=True)
class Place:
    """Configuration of a server, as its row shows it. `memory`: words by the name of the device."""

    node: str = ""
    group: str = ""
    model: str = ""
    memory: Mapping[str, str] | None = None
    memory_said: str = ""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures of a row: the last day as a bar, and the requests of now."""

    bar: Bar | None = None
    counts: Counts | None = None

    @property
    def said(self) -> str:
        """`2 in flight · 1 waiting · 41 tokens/s`; empty while nothing is asked."""
        counts = self.counts
        if counts is None:
            return ""
        speed = counts.tokens_per_second
        parts = [_("%(count)d in flight") % {"count": counts.in_flight}] if counts.in_flight else []
        parts += [_("%(count)d waiting") % {"count": counts.waiting}] if counts.waiting else []
        parts += [_("%(count).0f tokens/s") % {"count": speed}] if speed is not None else []
        return " · ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Row:
    view: ServerView
    place: Place
    figures: Figures


@dataclass(frozen=True, kw_only=True)
class Overview:
    """All servers, those with trouble first. `last_trouble`: Unix seconds of the last end by a failure."""

    rows: tuple[Row, ...]
    last_trouble: float | None
    has_nodes: bool
    """Servers are on more than one node."""

    @property
    def only(self) -> ServerView | None:
        """The server, where there is one alone."""
        return self.rows[0].view if len(self.rows) == 1 else None

    @property
    def well(self) -> str:
        """Sentence for when nothing needs attention."""
        count = len(self.rows)
        if planned := sum(row.view.is_planned for row in self.rows):
            said = ngettext(
                "All is well but for %(count)d server in maintenance.",
                "All is well but for %(count)d servers in maintenance.",
                planned,
            )
            return said % {"count": planned}
        if count == 2:
            return _("Both servers are well.")
        return ngettext("The server is well.", "All %(count)d servers are well.", count) % {"count": count}


def attention_of(
    status: LlamaStatus, stale_since: float | None, *, is_planned: bool = False
) -> Attention | None:
    """Return why somebody should look at a server; None: nobody need. In maintenance it may be down."""
    if is_planned and (stale_since is not None or status.status is not Status.READY):
        return None
    if stale_since is not None:
        why = _("What was seen last may be old. Start its supervisor again, on its machine.")
        return Attention(
            tone="warn", what=_("No supervisor is reporting"), since=stale_since, why=why, help=Help.LOOK
        )
    if status.status is Status.ERROR:
        permanent = status.failure is not None and status.failure.permanent
        start = Help.LOOK if permanent else Help.START
        return _of(status, "error", Help.ROLL_BACK if status.can_roll_back else start)
    if status.status is Status.CRASHED:
        return _of(status, "warn", Help.ROLL_BACK if status.can_roll_back else Help.LOOK)
    if status.status is Status.STARTING and status.retries:
        return _of(status, "warn", Help.LOOK)
    if status.warnings:
        first, *others = status.warnings
        count = 1 + len(others)
        what = ngettext("%(word)s, with %(count)d warning", "%(word)s, with %(count)d warnings", count)
        what %= {"word": standing(status), "count": count}
        return Attention(tone="warn", what=what, since=None, why=first, help=Help.LOOK)
    return None


def _of(status: LlamaStatus, tone: str, button: Help) -> Attention:
    return Attention(tone=tone, what=standing(status), since=status.down_since, why=lede(status), help=button)


def rank_of(status: LlamaStatus, stale_since: float | None, *, is_planned: bool = False) -> int:
    """Return the place of a server in the list: trouble first, stopped servers last."""
    if status.status in DOWN and stale_since is None and not is_planned:
        return 0 if status.status is Status.ERROR else 1
    if attention_of(status, stale_since, is_planned=is_planned) is not None:
        return 2
    order = (Status.STARTING, Status.STOPPING, Status.READY)
    return 3 + order.index(status.status) if status.status in order else 6


def attention_of_view(view: ServerView) -> Attention | None:
    """`attention_of`."""
    return attention_of(view.status, view.stale_since, is_planned=view.is_planned)


def rank_of_view(view: ServerView) -> int:
    """`rank_of`."""
    return rank_of(view.status, view.stale_since, is_planned=view.is_planned)


def overview_of(
    views: Sequence[ServerView], places: Mapping[str, Place], figures: Mapping[str, Figures] | None = None
) -> Overview:
    """Put the rows in order. `places` and `figures`: by name of the server."""
    in_order = sorted(views, key=lambda view: (rank_of_view(view), view.status.name))
    known = figures or {}
    rows = tuple(
        Row(
            view=view,
            place=places.get(view.status.name, Place()),
            figures=known.get(view.status.name, Figures()),
        )
        for view in in_order
    )
    return Overview(
        rows=rows,
        last_trouble=last_trouble(views),
        has_nodes=len({row.place.node for row in rows}) > 1,
    )


def last_trouble(views: Sequence[ServerView]) -> float | None:
    """Return when a process last ended by a failure, of the newest runs of all servers."""
    ends = (run.ended_at for view in views for run in view.status.runs if run.failure is not None)
    return max((end for end in ends if end is not None), default=None)


def model_of(model_path: str, models_dir: str, args: Sequence[str]) -> str:
    """Return the name of the model that a server is configured to have; empty: that is not said."""
    if repository := repository_of(args):  # llama-server does not use the path then
        return repository.rstrip("/").rsplit("/", 1)[-1]
    if model_path:
        return model_path.rsplit("/", 1)[-1]
    folder = models_dir.rstrip("/").rsplit("/", 1)[-1]
    return _("models of %(folder)s/") % {"folder": folder} if models_dir else ""
