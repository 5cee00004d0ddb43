"""Still charts of a day or a year, as paths of SVG and in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from supervisor_app.common.words import size
from supervisor_app.fleet.sample_rules import HOUR, MEMORY, MINUTE, longer
from supervisor_app.pages.presenters.now import in_order, memory_name, milliseconds, percent, rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from supervisor_app.fleet.sample_rules import Point

WIDTH, HEIGHT = 600, 100
"""Units of a drawing, which is stretched to the place that it has."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time that a chart shows."""

    key: str
    seconds: int
    step: int
    """Step of the rows that it is drawn from, in seconds."""
    dot: int
    """Seconds that become one point of the line."""


SPANS = {
    span.key: span for span in (Span("day", 86_400, MINUTE, 600), Span("year", 365 * 86_400, HOUR, 86_400))
}


@dataclass(frozen=True, slots=True)
class Line:
    """A figure over time."""

    name: str
    mean: str
    """Path of the means."""
    most: str
    """Path of the most of each point."""
    least_said: str
    mean_said: str
    most_said: str


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    top: str
    """The number at its upper edge."""
    lines: list[Line]

    @property
    def sentence(self) -> str:
        """Return all that it shows in words."""
        said = (
            _("%(name)s: mean %(mean)s, from %(least)s to %(most)s")
            % {"name": line.name, "mean": line.mean_said, "least": line.least_said, "most": line.most_said}
            for line in self.lines
        )
        return f"{self.title}. {'; '.join(said)}."


def charts(points: Sequence[Point], span: Span, now: int, devices: Mapping[str, str]) -> list[Chart]:
    """Draw the charts of a span of time that ends now; one of which nothing is known is left out."""
    dots = longer(points, span.dot)
    memory = in_order({name for dot in dots for name in dot.figures if name.startswith(MEMORY)})
    plans: list[tuple[str, list[tuple[str, str]], Callable[[float], str]]] = [
        (_("Tokens a second"), [("generated", _("generated")), ("prefilled", _("prompts read"))], rate),
        (_("Requests"), [("in_flight", _("at the server")), ("waiting", _("waiting"))], _number),
        (_("First token"), [("ttft", _("time to the first token"))], milliseconds),
        (_("From the cache"), [("cached", _("share of the prompts"))], percent),
        (_("CPU"), [("cpu", _("cores"))], _number),
        (
            _("Memory"),
            [(name, memory_name(name, devices)) for name in memory],
            lambda value: size(round(value)),
        ),
    ]
    drawn = (_chart(title, lines, say, dots, span, now) for title, lines, say in plans)
    return [chart for chart in drawn if chart.lines]


def _chart(
    title: str,
    lines: Iterable[tuple[str, str]],
    say: Callable[[float], str],
    dots: Sequence[Point],
    span: Span,
    now: int,
) -> Chart:
    known = [(key, name) for key, name in lines if any(key in dot.figures for dot in dots)]
    top = max(
        (dot.figures[key].most for key, _name in known for dot in dots if key in dot.figures), default=0.0
    )
    drawn = [_line(key, name, say, dots, span, now, top or 1.0) for key, name in known]
    return Chart(title=title, top=say(top), lines=drawn)


def _line(
    key: str, name: str, say: Callable[[float], str], dots: Sequence[Point], span: Span, now: int, top: float
) -> Line:
    known = [(dot.at, dot.figures[key]) for dot in dots if key in dot.figures]
    means = [mean.mean for _at, mean in known]
    begin = now - span.seconds

    def path(values: Iterable[tuple[int, float]]) -> str:
        return _path(
            ((at - begin) / span.seconds, value / top, span.dot / span.seconds) for at, value in values
        )

    return Line(
        name=name,
        mean=path((at, mean.mean) for at, mean in known),
        most=path((at, mean.most) for at, mean in known),
        least_said=say(min(means)),
        mean_said=say(sum(means) / len(means)),
        most_said=say(max(mean.most for _at, mean in known)),
    )


def _path(dots: Iterable[tuple[float, float, float]]) -> str:
    """Draw a step for each dot (x, y and width as shares), and begin anew after a gap."""
    parts, end = [], None
    for x, y, width in dots:
        left, right = max(0.0, x) * WIDTH, min(1.0, x + width) * WIDTH
        height = HEIGHT * (1 - y)
        parts.append(
            f"{'L' if end is not None and left - end < 0.5 else 'M'}{left:.1f} {height:.1f}H{right:.1f}"
        )
        end = right
    return "".join(parts)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 or not value else f"{value:.1f}"


def _bytes(value: float) -> str:
    return size(round(value))
