"""A seed's world, lived twice: as the gateway is, and without its fast path and its patterns of answers' heads."""

from __future__ import annotations

import asyncio
import logging
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from supervisor_app.gateway.plane import client
from supervisor_app.gateway.plane.fast_path import FastExchange
from supervisor_app.gateway.servers import upstream
from supervisor_app.gateway.servers.visit import Visit
from tests.simulation.loop import VirtualLoop
from tests.simulation.world import Report, Stories, World

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN = 300
"""Characters of what differs."""


def simulate(seed: int) -> Report:
    """Simulate a world: always the same for the same seed."""
    with (
        pytest.MonkeyPatch.context() as patch,
        TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        for request in (Visit, FastExchange):
            patch.setattr(request, "__hash__", _by_arrival)
        return runner.run(_live(seed, Path(directory)))


def simulate_the_long_way(seed: int) -> Report:
    """The same world, in which each request is an `Exchange` and each head is parsed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "take_fast_path", lambda *_: None)
        patch.setattr(upstream, "pattern_of", lambda *_: None)
        return simulate(seed)


def problems_of(seed: int) -> list[str]:
    """List the problems of both runs, and where they differ first."""
    short, long = simulate(seed), simulate_the_long_way(seed)
    return [
        *(f"{problem}" for problem in short.problems),
        *(f"the long way: {problem}" for problem in long.problems),
        *([] if short.problems or long.problems else differences(short, long)),
    ]


def differences(short: Report, long: Report) -> Iterator[str]:
    """List differences, at most one: the earliest.

    What is compared is what each client, each server and so on saw, and when; not in which order it happened
    to several of them at one moment, and nothing from the moment on at which a gateway begins to stop: how
    far a request is then differs, and so does whether its answer says that the connection ends.
    """
    until = min(short.drained_at, long.drained_at)
    found = []
    for who in sorted(short.stories.keys() | long.stories.keys()):
        pairs = zip_longest(_story(short.stories, who, until), _story(long.stories, who, until))
        differing = next(((one, other) for one, other in pairs if one != other), None)
        if differing is not None:
            at = min(moment[0] for moment in differing if moment is not None)
            found.append((at, who, *differing))
    if found:
        at, who, one, other = min(found, key=lambda each: each[:2])
        yield f"{who} at {at}:\n  {str(one)[:SHOWN]}\n  the long way: {str(other)[:SHOWN]}"


def _story(stories: Stories, who: str, until: float) -> list[tuple[float, bytes | str]]:
    return [(at, what) for at, what in stories.get(who, []) if at < until]


def _by_arrival(request: Visit | FastExchange) -> int:
    """Who is told first that all of a gate have lost their server is else decided by addresses in memory."""
    return hash(request.since)


async def _live(seed: int, directory: Path) -> Report:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    world = World(loop, seed, directory)
    log = logging.getLogger("supervisor_app")
    log.addHandler(world)
    try:
        return await world.live()
    finally:
        log.removeHandler(world)
