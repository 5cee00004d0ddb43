"""`/metrics` of a gateway. No Django: metrics that the database knows come in as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from supervisor_app.gateway.records.counts import Counts, Occupancy, Series, add_load, families

if TYPE_CHECKING:
    from supervisor_app.gateway.records.record import Record

OTHER = "other"
"""Label of models that no server offers: each name that a client invents would become a series."""
IdOf = Callable[[str, str], str]
"""Map a server and the name of a model to the model's stable id; empty: the server has no such model."""


class Shared(Protocol):
    """The counts of several processes."""

    def own(self) -> Series:
        """Occupancy the counts that a process before this one has left."""

    def save(self, series: Series, load: Occupancy) -> None:
        """Publish this process's counts to the others."""

    def total(self) -> tuple[Series, Occupancy]:
        """Sum the counts of all processes."""


class _Snapshot(Collector):
    def __init__(self, series: Series, load: Occupancy) -> None:
        self._series = series
        self._load = load

    def collect(self) -> Iterator[Metric]:
        labels = ("server", "model")
        in_flight = GaugeMetricFamily(
            "llamaproxy_requests_in_flight", "Requests sent to the server and not ended.", labels=labels
        )
        held = GaugeMetricFamily(
            "llamaproxy_requests_held", "Requests that wait for the server.", labels=labels
        )
        for where, (flying, waiting) in self._load.items():
            in_flight.add_metric(where, flying)
            held.add_metric(where, waiting)
        yield from families(self._series)
        yield from (in_flight, held)


class GatewayMetrics:
    """Counts of records. `observe` and `load_of` belong to the event loop, the rest may run in any thread."""

    def __init__(self, *, id_of: IdOf = lambda server, model: "", shared: Shared | None = None) -> None:
        """`shared`: the counts of other processes, if there are any."""
        self._id_of = id_of
        self._shared = shared
        self._series: Series = shared.own() if shared is not None else {}

    def observe(self, record: Record) -> None:
        labels = (record.server, self._label(record.server, record.model), record.outcome.value)
        counts = self._series.get(labels)
        if counts is None:
            counts = self._series[labels] = Counts()
        counts.add(record)

    def _label(self, server: str, model: str) -> str:
        return self._id_of(server, model) or (OTHER if model else "")

    def load_of(self, gates: Iterable[tuple[str, str, int, int]]) -> Occupancy:
        """Sum what `Gateway.load` yields; a model that was asked for before stays, with 0."""
        load: Occupancy = {}
        for server, model, in_flight, held in gates:
            add_load(load, (server, self._label(server, model)), in_flight, held)
        servers = {server for server, _ in load}
        for server, model, _ in self._series:
            if server in servers:
                load.setdefault((server, model), (0, 0))
        return load

    def save(self, load: Occupancy) -> None:
        """Publish the counts to the other processes."""
        if self._shared is not None:
            self._shared.save(self._series, load)

    def render(self, load: Occupancy, *others: str) -> str:
        """Render the text exposition format, with other expositions merged in."""
        series = self._series
        if self._shared is not None:
            self._shared.save(series, load)
            series, load = self._shared.total()
        registry = CollectorRegistry()
        registry.register(_Snapshot(series, load))
        return merge([generate_latest(registry).decode(), *others])


# --- Text ----------------------------------------------------------------------------------------------

LLAMA = "llamacpp:"
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_WORD = r"[a-zA-Z_][a-zA-Z0-9_]*"
_TEXT = r'"(?:[^"\\]|\\.)*"'
_LABEL = f"{_WORD}={_TEXT}"
_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|Inf|NaN|inf|nan)"
_SAMPLE = re.compile(
    rf"({_NAME})(?:\{{((?:{_LABEL}(?:,{_LABEL})*,?)?)\}})?[ \t]+({_NUMBER})(?:[ \t]+-?[0-9]+)?"
)
_PAIR = re.compile(f"({_WORD})=({_TEXT})")
_COMMENT = re.compile(rf"# (HELP|TYPE) ({_NAME})(?: .*)?")
_SUFFIXES = ("", "_bucket", "_sum", "_count")


def relabel(text: str, server: str, model: str) -> str:
    """Label each sample of llama-server's metrics with its server and model; drop everything else."""
    told = f'server="{_escape(server)}",model="{_escape(model)}"'
    lines = []
    for line in text.split("\n"):
        if (comment := _COMMENT.fullmatch(line)) and comment[2].startswith(LLAMA):
            lines.append(line)
        elif (sample := _SAMPLE.fullmatch(line)) and sample[1].startswith(LLAMA):
            name, own, number = sample.groups()
            labels = "".join(f",{_exported(label)}={value}" for label, value in _PAIR.findall(own or ""))
            lines.append(f"{name}{{{told}{labels}}} {number}")
    return "".join(f"{line}\n" for line in lines)


def _exported(label: str) -> str:
    """The name that Prometheus itself gives to a label whose name is taken."""
    return f"exported_{label}" if label in ("server", "model") else label


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def merge(texts: Iterable[str]) -> str:
    """Merge expositions into one: all samples of a metric together, below one description."""
    comments: dict[str, dict[str, str]] = {}
    samples: dict[str, list[str]] = {}
    for text in texts:
        family = ""
        for line in text.split("\n"):
            if comment := _COMMENT.fullmatch(line):
                family = comment[2]
                comments.setdefault(family, {}).setdefault(comment[1], line)
            elif line and not line.startswith("#"):
                name = re.split(r"[{ \t]", line, maxsplit=1)[0]
                described = name.startswith(family) and name.removeprefix(family) in _SUFFIXES
                samples.setdefault(family if described else name, []).append(line)
    lines = [
        line for family, found in samples.items() for line in (*comments.get(family, {}).values(), *found)
    ]
    return "".join(f"{line}\n" for line in lines)
