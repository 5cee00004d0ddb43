"""Programs that ask: drops, bursts, batches, and one that goes from model to model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.chance import Chance
    from tests.simulation.placement.timeline import Timeline


@dataclass(eq=False)
class Request:
    server: str
    seconds: float
    """Time that it takes on a slot."""
    then: Callable[[], None] = lambda: None
    arrived: float = 0.0
    begun: float | None = None
    attempt: int = 0


def invite_clients(
    chance: Chance, names: Sequence[str], timeline: Timeline, until: float, ask: Callable[[Request], None]
) -> None:
    for _ in range(chance.randrange(3, 8)):
        come = chance.choice([_drops, _burst, _batch, _agent, _household, _stream])
        come(chance, names, timeline, chance.random() * until, ask)


def _drops(chance, names, timeline, at, ask) -> None:
    """Now and then a request, whatever became of the last."""
    name = chance.choice(names)
    for _ in range(chance.randrange(2, 10)):
        request = Request(name, _seconds(chance))
        timeline.at(at, _asking(request, ask))
        at += chance.about(1, 10, 60)


def _household(chance, names, timeline, at, ask) -> None:
    """Several people for a while: a few models are asked often, most of them seldom."""
    liked = chance.sample(names, len(names))
    for _ in range(chance.randrange(5, 30)):
        name = liked[min(int(chance.expovariate(0.5)), len(liked) - 1)]
        timeline.at(at, _asking(Request(name, _seconds(chance)), ask))
        at += chance.about(2, 10, 30)


def _stream(chance, names, timeline, at, ask) -> None:
    """Requests that overlap for minutes: left alone, its server is never idle."""
    name, end = chance.choice(names), at + chance.about(40, 120)
    pause = chance.about(2, 5)
    while at < end:
        timeline.at(at, _asking(Request(name, pause * (1.05 + 0.3 * chance.random())), ask))
        at += pause


def _burst(chance, names, timeline, at, ask) -> None:
    """Many at once, for one model or for any."""
    some = chance.sample(names, chance.choice([1, 1, 4]))
    for _ in range(chance.randrange(3, 20)):
        timeline.at(at + chance.random(), _asking(Request(chance.choice(some), _seconds(chance)), ask))


def _batch(chance, names, timeline, at, ask) -> None:
    """One after the other, at once when the last is answered; several do the same beside it."""
    name = chance.choice(names)
    for _ in range(chance.randrange(1, 4)):
        _one_by_one(
            [Request(name, _seconds(chance)) for _ in range(chance.randrange(3, 12))], 0.05, timeline, at, ask
        )


def _agent(chance, names, timeline, at, ask) -> None:
    """It goes from model to model, and thinks in between."""
    some = chance.sample(names, chance.choice([2, 2, 3]))
    requests = [Request(some[turn % len(some)], _seconds(chance)) for turn in range(chance.randrange(4, 12))]
    _one_by_one(requests, chance.about(0.5, 5), timeline, at, ask)


def _one_by_one(requests, pause, timeline, at, ask) -> None:
    for request, following in pairwise(requests):
        request.then = lambda following=following: timeline.after(pause, _asking(following, ask))
    timeline.at(at, _asking(requests[0], ask))


def _asking(request: Request, ask: Callable[[Request], None]) -> Callable[[], None]:
    return lambda: ask(request)


def _seconds(chance: Chance) -> float:
    return chance.about(120, 300) if chance.hits(0.02) else chance.about(0.3, 2, 8)
