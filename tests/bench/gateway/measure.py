"""The steps of one round. Each asks one plane for one thing and tells its figures."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from tests.bench.gateway.load import Load, Result, chat
from tests.bench.gateway.planes import Plane
from tests.bench.gateway.report import Row

Figures = dict[str, float]
Step = Callable[[Plane], Figures]

PACE_US = 5000
"""Between two tokens of a paced stream: 200 tokens a second."""
PACED_TOKENS = 600
FULL_SPEED_TOKENS = 3000
SHORT_STREAM = 8
"""Tokens of a stream that is there for its first one."""
OPEN_STREAMS = 1000
SETTLE_SECONDS = 1.5
"""After a load: what a plane writes down later is part of the price."""
IDLE_SECONDS = 4.0

MOCK_ROWS = [
    Row(figure="short p50", label="short request, p50", unit="µs"),
    Row(figure="short p99", label="short request, p99", unit="µs"),
    Row(figure="short p50", label="  added, p50", unit="µs", added=True, aim="≤ 1.5 × nginx"),
    Row(figure="short p99", label="  added, p99", unit="µs", added=True, aim="≤ 1.5 × nginx"),
    Row(figure="rate", label="16 connections", unit="requests/s", digits=0, aim="≥ 0.6 × nginx"),
    Row(figure="cpu rate", label="  CPU", unit="µs/request"),
    Row(figure="large p50", label="100 kB request, p50", unit="µs"),
    Row(figure="large p50", label="  added, p50", unit="µs", added=True, aim="≤ 1.5 × nginx"),
    Row(figure="cpu large", label="  CPU", unit="µs/request"),
    Row(figure="first p50", label="first token of a stream, p50", unit="µs"),
    Row(figure="first p50", label="  added, p50", unit="µs", added=True, aim="≤ 200 µs"),
    Row(figure="first p99", label="  added, p99", unit="µs", added=True),
    Row(figure="cpu 1", label="CPU, 1 paced stream", unit="µs/event", aim="≤ 1.5 × nginx"),
    Row(figure="cpu 16", label="CPU, 16 paced streams", unit="µs/event", aim="≤ 1.5 × nginx"),
    Row(figure="cpu 64", label="CPU, 64 paced streams", unit="µs/event", aim="≤ 1.5 × nginx"),
    Row(figure="cpu full", label="CPU, 64 streams at full speed", unit="µs/event", aim="≤ 1.5 × nginx"),
    Row(figure="full", label="64 streams at full speed", unit="events/s", digits=0),
    Row(figure="cpu idle", label="CPU, idle", unit="% of 1", digits=2),
    Row(figure="rss idle", label="RSS, idle", unit="MB"),
    Row(figure="rss open", label=f"RSS, {OPEN_STREAMS} open streams", unit="MB", aim="≤ 90 MB"),
]
ENGINE_ROWS = [
    Row(figure="short p50", label="one token, p50", unit="µs"),
    Row(figure="short p50", label="  added, p50", unit="µs", added=True),
    Row(figure="rate", label="one token, 8 connections", unit="requests/s", digits=0),
    Row(figure="first p50", label="first token of a stream, p50", unit="µs"),
    Row(figure="first p50", label="  added, p50", unit="µs", added=True, aim="≤ 200 µs"),
    Row(figure="streams", label="short streams, 8 connections", unit="streams/s", digits=0),
]


class Steps(ABC):
    """`model` is what the server calls its own."""

    title: ClassVar[str]
    rows: ClassVar[list[Row]]

    def __init__(self, load: Load, model: str) -> None:
        self._load = load
        self._model = model

    @property
    @abstractmethod
    def steps(self) -> list[Step]: ...


class MockSteps(Steps):
    """Against the mock upstream, which costs next to nothing: all that is added is the plane's."""

    title = "mock upstream"
    rows = MOCK_ROWS

    def __init__(self, load: Load, model: str) -> None:
        super().__init__(load, model)
        self._idle_share: dict[str, float] = {}

    @property
    def steps(self) -> list[Step]:
        paced = [self._paced(count) for count in (1, 16, 64)]
        return [self.idle, self.short, self.rate, self.large, self.first, *paced, self.full_speed, self.open]

    def idle(self, plane: Plane) -> Figures:
        """What it costs to do nothing: not part of the price of an event."""
        if plane.pid is None:
            return {}
        time.sleep(SETTLE_SECONDS)
        before = plane.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        share = self._idle_share[plane.name] = (plane.cpu_seconds() - before) / IDLE_SECONDS
        return {"cpu idle": 100 * share, "rss idle": plane.rss_mb()}

    def short(self, plane: Plane) -> Figures:
        result = self._load.run(plane, chat(self._model), requests=10_000)
        return {"short p50": result.latency_p50, "short p99": result.latency_p99}

    def rate(self, plane: Plane) -> Figures:
        body = chat(self._model)
        result, cpu = self._priced(plane, lambda: self._load.run(plane, body, connections=16, seconds=2))
        return {"rate": result.whole / result.seconds, **_cpu(plane, "rate", cpu, result.whole)}

    def large(self, plane: Plane) -> Figures:
        body = chat(self._model, padding=100_000)
        result, cpu = self._priced(plane, lambda: self._load.run(plane, body, requests=3000))
        return {"large p50": result.latency_p50, **_cpu(plane, "large", cpu, result.whole)}

    def first(self, plane: Plane) -> Figures:
        result = self._load.streams(plane, self._model, SHORT_STREAM, requests=1000)
        return {"first p50": result.first_p50, "first p99": result.first_p99}

    def _paced(self, count: int) -> Step:
        def paced(plane: Plane) -> Figures:
            result, cpu = self._streams(plane, count, PACED_TOKENS, PACE_US)
            return _cpu(plane, str(count), cpu, result.events)

        return paced

    def full_speed(self, plane: Plane) -> Figures:
        result, cpu = self._streams(plane, 64, FULL_SPEED_TOKENS)
        return {"full": result.events / result.seconds, **_cpu(plane, "full", cpu, result.events)}

    def open(self, plane: Plane) -> Figures:
        if plane.pid is None:
            return {}
        with self._load.open_streams(plane, self._model, OPEN_STREAMS):
            time.sleep(SETTLE_SECONDS)
            return {"rss open": plane.rss_mb()}

    def _streams(self, plane: Plane, count: int, tokens: int, interval_us: int = 0) -> tuple[Result, float]:
        return self._priced(
            plane, lambda: self._load.streams(plane, self._model, tokens, interval_us, connections=count)
        )

    def _priced(self, plane: Plane, run: Callable[[], Result]) -> tuple[Result, float]:
        """The result, and the CPU seconds of the plane, less what it uses when idle."""
        before, began = plane.cpu_seconds(), time.monotonic()
        result = run()
        if plane.pid:
            time.sleep(SETTLE_SECONDS)
        idle = self._idle_share.get(plane.name, 0.0) * (time.monotonic() - began)
        return result, plane.cpu_seconds() - before - idle


def _cpu(plane: Plane, figure: str, seconds: float, count: int) -> Figures:
    """Microseconds each; of no plane, none."""
    return {f"cpu {figure}": 1e6 * seconds / count} if plane.pid else {}


class EngineSteps(Steps):
    """Against a real engine, which is most of the time: what its users see."""

    title = "real engine"
    rows = ENGINE_ROWS

    @property
    def steps(self) -> list[Step]:
        return [self.short, self.rate, self.first, self.streams]

    def short(self, plane: Plane) -> Figures:
        return {"short p50": self._load.run(plane, chat(self._model), requests=500).latency_p50}

    def rate(self, plane: Plane) -> Figures:
        result = self._load.run(plane, chat(self._model), connections=8, seconds=2)
        return {"rate": result.whole / result.seconds}

    def first(self, plane: Plane) -> Figures:
        return {"first p50": self._load.streams(plane, self._model, SHORT_STREAM, requests=400).first_p50}

    def streams(self, plane: Plane) -> Figures:
        result = self._load.streams(plane, self._model, SHORT_STREAM, connections=8, seconds=2)
        return {"streams": result.whole / result.seconds}
