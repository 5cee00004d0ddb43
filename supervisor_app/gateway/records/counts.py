"""Counts of requests.

Plain numbers, because a client library's counters cost as much as the request itself does; they become metric
families when somebody scrapes.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor_app.gateway.records.record import Record

SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""Upper bounds of the buckets: from a cached token of a tiny model to a long answer of a large one."""
LABELS = ("server", "model", "outcome")


class Buckets:
    """A histogram of seconds."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.sum += seconds

    def merge(self, other: Buckets) -> None:
        self.counts = [own + theirs for own, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def cumulated(self) -> list[tuple[str, float]]:
        """Pair each bound with the number of observations below it, as Prometheus wants them."""
        total, told = 0, []
        for bound, count in zip((*SECONDS, None), self.counts, strict=True):
            total += count
            told.append(("+Inf" if bound is None else str(float(bound)), float(total)))
        return told


class Counts:
    """Counts of all requests with one server, model and outcome."""

    __slots__ = ("cached", "duration", "failed", "generated", "prompt", "replays", "requests", "ttft")

    def __init__(self) -> None:
        self.requests = self.failed = self.replays = self.prompt = self.cached = self.generated = 0
        self.duration = Buckets()
        self.ttft = Buckets()

    def add(self, record: Record) -> None:
        usage = record.usage
        self.requests += 1
        self.failed += record.failed
        self.replays += record.replays
        self.prompt += usage.prompt_tokens or 0
        self.cached += usage.cached_tokens or 0
        self.generated += usage.generated_tokens or 0
        self.duration.observe(record.duration_ms / 1000)
        if record.ttft_ms is not None:
            self.ttft.observe(record.ttft_ms / 1000)

    def merge(self, other: Counts) -> None:
        self.requests += other.requests
        self.failed += other.failed
        self.replays += other.replays
        self.prompt += other.prompt
        self.cached += other.cached
        self.generated += other.generated
        self.duration.merge(other.duration)
        self.ttft.merge(other.ttft)

    def as_json(self) -> list[Any]:
        numbers = [self.requests, self.replays, self.prompt, self.cached, self.generated, self.failed]
        return [numbers, *((list(each.counts), each.sum) for each in (self.duration, self.ttft))]

    @classmethod
    def from_json(cls, told: list[Any]) -> Counts:
        """Invert `as_json`. Raises ValueError and TypeError for anything else."""
        counts = cls()
        numbers, *histograms = told
        counts.requests, counts.replays, counts.prompt, counts.cached, counts.generated, counts.failed = (
            int(number) for number in numbers
        )
        for each, (buckets, total) in zip((counts.duration, counts.ttft), histograms, strict=True):
            if len(buckets) != len(each.counts):
                raise ValueError("other bounds")
            each.counts, each.sum = [int(count) for count in buckets], float(total)
        return counts


Series = dict[tuple[str, str, str], Counts]
"""Counts by server, model and outcome."""
Occupancy = dict[tuple[str, str], tuple[int, int]]
"""Requests in flight and requests held, by server and model."""


def add_load(load: Occupancy, where: tuple[str, str], in_flight: int, held: int) -> None:
    before = load.get(where, (0, 0))
    load[where] = (before[0] + in_flight, before[1] + held)


def families(series: Series) -> Iterator[Metric]:
    """Metric families, also in another thread than the one that counts: `series` only ever grows."""
    items = list(series.items())
    requests = CounterMetricFamily("llamaproxy_requests", "Requests that ended.", labels=LABELS)
    duration = HistogramMetricFamily(
        "llamaproxy_request_duration_seconds",
        "From the head of a request to the end of its answer, waiting included.",
        labels=LABELS,
    )
    ttft = HistogramMetricFamily(
        "llamaproxy_request_ttft_seconds",
        "From the head of a request to the first byte of content, waiting included.",
        labels=LABELS,
    )
    for labels, counts in items:
        requests.add_metric(labels, counts.requests)
        duration.add_metric(labels, counts.duration.cumulated(), counts.duration.sum)
        ttft.add_metric(labels, counts.ttft.cumulated(), counts.ttft.sum)
    yield from (requests, duration, ttft)
    yield from _by_model(items)


def _by_model(series: list[tuple[tuple[str, str, str], Counts]]) -> Iterator[Metric]:
    tokens = CounterMetricFamily(
        "llamaproxy_tokens",
        "Tokens by kind; those of cached prompts are among the prompts'.",
        labels=("server", "model", "kind"),
    )
    replays = CounterMetricFamily(
        "llamaproxy_replays",
        "Requests sent once more, because their server had died.",
        labels=("server", "model"),
    )
    failed = CounterMetricFamily(
        "llamaproxy_failed_requests",
        "Requests answered with 500 or more, also in a stream, or whose answer broke off.",
        labels=("server", "model"),
    )
    models: dict[tuple[str, str], list[Counts]] = {}
    for (server, model, _), counts in series:
        models.setdefault((server, model), []).append(counts)
    for model_labels, all_counts in models.items():
        replays.add_metric(model_labels, sum(counts.replays for counts in all_counts))
        failed.add_metric(model_labels, sum(counts.failed for counts in all_counts))
        for kind in ("prompt", "cached", "generated"):
            total = sum(getattr(counts, kind) for counts in all_counts)
            tokens.add_metric((*model_labels, kind), total)
    yield from (tokens, replays, failed)
