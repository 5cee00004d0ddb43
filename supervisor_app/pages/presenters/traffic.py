"""Requests in flight, and the sums of each day, in the words of their pages. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.utils.translation import ngettext

from supervisor_app.gateway.records.in_flight import InFlight, Phase
from supervisor_app.traffic.sums import SUMS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

PHASES = {
    Phase.ARRIVING: (_lazy("Arriving"), "calm"),
    Phase.HELD: (_lazy("Held"), "warn"),
    Phase.LOADING: (_lazy("Loading"), "busy"),
    Phase.QUEUED: (_lazy("Queued"), "busy"),
    Phase.SENT: (_lazy("Computing"), "up"),
    Phase.PREFILL: (_lazy("Prefill"), "up"),
    Phase.GENERATING: (_lazy("Generating"), "up"),
}
"""The word of each phase, and its colour."""

MEANINGS = {
    Phase.ARRIVING: _lazy("its body comes"),
    Phase.HELD: _lazy("until its server is back"),
    Phase.LOADING: _lazy("until the model is loaded"),
    Phase.QUEUED: _lazy("until it is its turn"),
    Phase.SENT: _lazy("the answer comes whole"),
    Phase.PREFILL: _lazy("reads the prompt"),
    Phase.GENERATING: "",
}


BUSY = _lazy("It works on as many requests as it takes.")


@dataclass(frozen=True, slots=True)
class FlightRow:
    """A request in flight, as its row says it."""

    request: InFlight
    phase: str
    tone: str
    remark: str
    """`43 % of the prompt`, `812 tokens`."""
    speed: str
    """`41 tokens/s`; empty: not known."""
    is_ending: bool
    """Somebody has cancelled the request, which is about to end."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The requests that wait for one server, and why they do."""

    server: str
    count: int
    reason: str

    @property
    def said(self) -> str:
        said = ngettext("%(count)d request waits for", "%(count)d requests wait for", self.count)
        return said % {"count": self.count}


def flight_rows(requests: Iterable[InFlight], cancelled: Collection[str]) -> list[FlightRow]:
    """Put requests in flight into words, in the order in which they came."""
    return [_flight_row(request, is_ending=request.id in cancelled) for request in requests]


def _flight_row(request: InFlight, *, is_ending: bool) -> FlightRow:
    word, tone = PHASES[request.phase]
    remark = str(MEANINGS[request.phase])
    if request.prefill is not None:
        remark = _("{share} of the prompt").format(share=f"{100 * request.prefill:.0f} %")
    elif request.tokens is not None and request.phase is Phase.GENERATING:
        remark = ngettext("%(count)d token", "%(count)d tokens", request.tokens) % {"count": request.tokens}
    speed = request.tokens_per_second
    return FlightRow(
        request=request,
        phase=_("Cancelled") if is_ending else str(word),
        tone="calm" if is_ending else tone,
        remark=_("is about to end") if is_ending else remark,
        speed="" if speed is None else f"{speed:.0f}/s" if speed >= 9.95 else f"{speed:.1f}/s",
        is_ending=is_ending,
    )


def queues(
    waiting: Mapping[str, int], requests: Iterable[InFlight], details: Mapping[str, str]
) -> list[Queue]:
    """Say for which servers requests wait, and why. `details`: the words of each server's supervisor.

    Where one of the requests waits for its turn its server is up, and says nothing of that.
    """
    busy = {request.server for request in requests if request.phase is Phase.QUEUED}
    return [
        Queue(server, count, str(BUSY) if server in busy else details.get(server, ""))
        for server, count in sorted(waiting.items())
    ]


# --- Usage ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Usage of one key, model, server or day."""

    name: str
    sums: tuple[int, ...]
    """Sums in the order of `SUMS`."""
    share: int
    """Percent of the tokens of the largest row."""


def usage_rows(groups: Sequence[Mapping[str, object]], by: str, nameless: str) -> list[UsageRow]:
    """Put grouped sums into rows. `nameless`: what an empty name means."""
    sums = [tuple(_number(group[name]) for name in SUMS) for group in groups]
    most = max((_tokens(each) for each in sums), default=0)
    return [
        UsageRow(str(group[by] or nameless), each, round(100 * _tokens(each) / most) if most else 0)
        for group, each in zip(groups, sums, strict=True)
    ]


def total_of(rows: Iterable[UsageRow]) -> tuple[int, ...]:
    """Add up rows, in the order of `SUMS`."""
    sums = [row.sums for row in rows]
    return tuple(map(sum, zip(*sums, strict=True))) if sums else (0,) * len(SUMS)


def _tokens(sums: tuple[int, ...]) -> int:
    return sums[3] + sums[5]


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def safe_cell(text: str) -> str:
    """A text for a spreadsheet, which must not take it for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
