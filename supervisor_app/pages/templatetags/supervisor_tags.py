"""Filters of the pages: numbers in words, and the fate of a run. Times come in as Unix seconds."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from django import template
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from supervisor_app.common import words
from supervisor_app.fleet.history import own
from supervisor_app.pages.build import build
from supervisor_app.pages.presenters.overview import attention_of_view, rank_of_view
from supervisor_app.pages.presenters.script_words import script_words
from supervisor_app.pages.presenters.standing import glyph, lede, standing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.utils.safestring import SafeString

    from supervisor_app.core.status import Progress, RunSummary
    from supervisor_app.fleet.history import Point, RunCard

register = template.Library()
register.filter("own", own)

SLOTS = 10
"""Bars in the timeline: as many as a snapshot has runs."""
LONGEST = 7 * 86400
"""Seconds of life that fill a bar."""


# --- Numbers -------------------------------------------------------------------------------------------


@register.filter
def duration(seconds: float | None) -> str:
    """`words.duration`; nothing when the time is not known."""
    return "" if seconds is None else words.duration(seconds)


@register.filter
def brief(seconds: float | None) -> str:
    """`words.tenths`; nothing when the time is not known."""
    return "" if seconds is None else words.tenths(seconds)


@register.filter
def ago(then: float | None, now: float) -> str:
    """`words.ago` in the language of the page; nothing when the moment is not known."""
    if then is None:
        return ""
    time = words.age(now - then)
    return _("%(time)s ago") % {"time": time} if time else _("just now")


@register.filter
def since(now: float, then: float | None) -> float | None:
    """Seconds from `then` to `now`, never below 0."""
    return None if then is None else max(0.0, now - then)


@register.filter
def eta(seconds: float | None) -> str:
    """`words.left`; nothing when the time is unknown or over."""
    return words.left(seconds) if seconds is not None and seconds > 0 else ""


@register.filter
def size(count: int | None) -> str:
    """`words.size`; nothing when the size is not known."""
    return "" if count is None else words.size(count)


@register.filter
def loaded_of_total(progress: Progress) -> str:
    """`1.2 of 2.9 GiB`."""
    return words.part_of(progress.loaded, progress.total)


@register.filter
def free_of_limit(memory: Mapping[str, Any]) -> int:
    free: int = memory["limit"] - memory["limitUsed"]
    return max(0, free)


@register.filter
def trend(history: Sequence[tuple[float, int]]) -> str:
    """Growth of memory in words, such as `From 1.2 GiB to 5.1 GiB in its last 40 s`."""
    (first, then), (last, now) = history[0], history[-1]
    lasted = duration(first - last)
    if abs(now - then) < 0.02 * max(now, 1):
        return _("About %(size)s for its last %(lasted)s.") % {"size": size(now), "lasted": lasted}
    said = _("From %(then)s to %(now)s in its last %(lasted)s.")
    return said % {"then": size(then), "now": size(now), "lasted": lasted}


# --- Times ---------------------------------------------------------------------------------------------


@register.filter
def ms(seconds: float | None) -> str:
    """Milliseconds for `data-` attributes: a string, so that no locale puts separators into it."""
    return "" if seconds is None else str(round(seconds * 1000))


@register.filter
def iso(seconds: float | None) -> str:
    """The value of `<time datetime>`."""
    return words.iso(seconds, "seconds") or ""


@register.filter
def clock(seconds: float | None) -> str:
    """`words.clock`. The browser rewrites it to its own time zone."""
    return "" if seconds is None else words.clock(seconds)


@register.filter
def instant(seconds: float | None) -> str:
    """`words.instant`; nothing when the moment is not known."""
    return "" if seconds is None else words.instant(seconds)


# --- Words ---------------------------------------------------------------------------------------------


register.filter("standing", standing)
register.filter("glyph", glyph)
register.filter("lede", lede)
register.filter("attention", attention_of_view)
register.filter("rank", rank_of_view)


@register.filter
def code_spans(text: str) -> SafeString:
    """Plain text with `backticks` as HTML code."""
    pairs = re.findall(r"([^`]*)(?:`([^`]*)`)?", text) if text.count("`") % 2 == 0 else [(text, "")]
    return format_html_join(
        "", "{}{}", ((plain, format_html("<code>{}</code>", code) if code else "") for plain, code in pairs)
    )


# --- Runs ----------------------------------------------------------------------------------------------


@register.filter
def tone(run: RunSummary) -> str:
    """The colour of a run: `up`, `busy`, `bad` or `calm`."""
    if run.open:
        return "busy" if run.ready_at is None else "up"
    return "bad" if run.failure else "calm"


@register.filter
def outcome(run: RunSummary) -> str:
    """The end of a run, in words."""
    if run.failure:
        return run.failure.title
    if run.open:
        return _("Starting") if run.ready_at is None else _("Running")
    return _("Stopped")


@register.filter
def ending(run: RunSummary) -> str:
    """The exit code or the signal, in words."""
    return _("it lives") if run.open else words.ending(run.exit_code, run.signal)


@register.filter
def story(card: RunCard, now: float) -> str:
    """Summarise a run in one sentence."""
    run = card.summary
    life = duration(lived(run, now)).replace(" ", "\u00a0")  # a number stays with its unit
    if run.open:
        return _("It has been running for %(life)s.") % {"life": life}
    if run.failure is None:
        was_ready = _("It was ready and lived for %(life)s. It was asked to end.")
        never = _("It was never ready and lived for %(life)s. It was asked to end.")
    else:
        was_ready = _("It was ready and lived for %(life)s, then died: %(ending)s.")
        never = _("It was never ready and lived for %(life)s, then died: %(ending)s.")
    return (never if run.ready_at is None else was_ready) % {"life": life, "ending": ending(run)}


@register.filter
def as_sentence(detail: str) -> str:
    """Begin our own words with a capital; a line that llama-server wrote stays as it is."""
    return f"It {detail[3:]}" if detail.startswith("it ") else detail


@register.filter
def arrows(change: str) -> str:
    return change.replace(" -> ", " → ")


@register.filter
def command(argv: Sequence[str]) -> str:
    """A command line for a shell."""
    return shlex.join(argv)


@register.filter
def last_x(chart: Sequence[Point]) -> str:
    return str(chart[-1].x)


@register.filter
def remarks(run: RunSummary) -> str:
    """Remarks on a run: `exit code 1 · retry 2 · was already running`."""
    said = []
    if run.signal is not None or run.exit_code:
        said.append(words.ending(run.exit_code, run.signal))
    if run.failure and run.ready_at is None:
        said.append(_("never ready"))
    if run.retry:
        said.append(_("retry %(number)d") % {"number": run.retry})
    if run.adopted:
        said.append(_("was already running"))
    return " · ".join(said)


@register.filter
def lived(run: RunSummary, now: float) -> float:
    """Seconds from its start to its end, or to now."""
    return max(0.0, (now if run.ended_at is None else run.ended_at) - run.started_at)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A run in the timeline, in units of its SVG. The height grows with the logarithm of its duration."""

    x: int
    y: float
    height: float
    tone: str


@register.filter
def bars(runs: Sequence[RunSummary], now: float) -> list[Bar]:
    """The runs from the oldest to the newest, right-aligned, free slots in front."""
    oldest_first = list(reversed(runs[:SLOTS]))
    free = SLOTS - len(oldest_first)
    heights = [3.0] * free + [_height(lived(run, now)) for run in oldest_first]
    tones = ["none"] * free + [tone(run) for run in oldest_first]
    return [
        Bar(x=12 * slot, y=round(32 - height, 1), height=height, tone=name)
        for slot, (height, name) in enumerate(zip(heights, tones, strict=True))
    ]


def _height(seconds: float) -> float:
    return round(6 + 26 * min(1.0, math.log1p(seconds) / math.log1p(LONGEST)), 1)


# --- Addresses -----------------------------------------------------------------------------------------


@register.simple_tag
def socket(server: str | None = None, view: str | None = None, config: str | None = None) -> str:
    """The WebSocket on which a page hears of changes: of one server, or of all; as cards, or by `view`.

    `config`: the server whose configuration the page shows.
    """
    asked = (("server", server), ("view", view), ("config", config), ("build", build()))
    said = {key: value for key, value in asked if value is not None}
    query = urlencode(said, quote_via=quote, safe="")
    return f"{reverse('socket', urlconf='supervisor_app.routing')}{query and '?'}{query}"


@register.simple_tag
def log_socket(server: str) -> str:
    """The WebSocket on which a page follows the log of a server."""
    return f"{reverse('log-socket', urlconf='supervisor_app.routing')}?server={quote(server, safe='')}"


# --- Scripts ---------------------------------------------------------------------------------------------

register.simple_tag(script_words)


# --- The product ---------------------------------------------------------------------------------------


@register.simple_tag
@cache
def version() -> str:
    """The version that is installed; nothing in a tree that was never installed."""
    try:
        return installed_version("llamaproxy")
    except PackageNotFoundError:
        return ""
