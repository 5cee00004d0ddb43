"""`/metrics`: what the database knows of each server, in Prometheus' words."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from supervisor_app.core.loaded import RoomOutcome
from supervisor_app.core.status import Status
from supervisor_app.fleet.devices import known_devices
from supervisor_app.fleet.models import ServerState
from supervisor_app.fleet.planned import planned_views

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = ["server"]
OF_RESTORES = ("used", "unused")


class ServerCollector(Collector):
    """Read at scrape time, so every web process tells the same."""

    def collect(self) -> Iterator[Metric]:
        now = time.time()
        up = GaugeMetricFamily(
            "llamaproxy_server_up", "1 while the server is ready and a supervisor says so.", labels=LABELS
        )
        status = GaugeMetricFamily(
            "llamaproxy_server_status",
            "1 for the status it has; none while no supervisor reports.",
            labels=[*LABELS, "status"],
        )
        retries = GaugeMetricFamily(
            "llamaproxy_server_retries", "Retry it is at; 0 when stable.", labels=LABELS
        )
        uptime = GaugeMetricFamily(
            "llamaproxy_server_uptime_seconds", "Since its process started.", labels=LABELS
        )
        watched = GaugeMetricFamily(
            "llamaproxy_server_supervised", "1 while a supervisor reports.", labels=LABELS
        )
        planned = GaugeMetricFamily(
            "llamaproxy_server_maintenance",
            "1 while it is in maintenance: nobody is told, and nothing is downtime.",
            labels=LABELS,
        )
        for view in planned_views():
            name, snapshot = view.status.name, view.status
            up.add_metric([name], float(view.is_known and snapshot.status is Status.READY))
            for word in Status:
                status.add_metric([name, word.value], float(view.is_known and snapshot.status is word))
            retries.add_metric([name], snapshot.retries)
            uptime.add_metric([name], snapshot.uptime(now) if view.is_known else 0)
            watched.add_metric([name], float(view.is_known))
            planned.add_metric([name], float(view.is_planned))
        yield from (up, status, retries, uptime, watched, planned)
        yield from _counters()
        yield from _loads()


def _counters() -> Iterator[Metric]:
    """Kept beside the history, which is pruned: they never fall."""
    starts = CounterMetricFamily("llamaproxy_server_starts", "Processes started.", labels=LABELS)
    failures = CounterMetricFamily(
        "llamaproxy_server_failures", "Lives that ended in a failure.", labels=[*LABELS, "kind"]
    )
    kept = CounterMetricFamily(
        "llamaproxy_server_contexts",
        "Conversations saved before a planned end (saved), restored after it, or lost.",
        labels=[*LABELS, "outcome"],
    )
    restores = CounterMetricFamily(
        "llamaproxy_server_context_restores",
        "Starts with restored conversations, by whether the first answers went on with them.",
        labels=[*LABELS, "outcome"],
    )
    rows = ServerState.objects.order_by("server__name")
    for name, started, failed, contexts in rows.values_list("server__name", "starts", "failures", "contexts"):
        for outcome, count in sorted(contexts.items()):
            (restores if outcome in OF_RESTORES else kept).add_metric([name, outcome], count)
        starts.add_metric([name], started)
        for kind, count in sorted(failed.items()):
            failures.add_metric([name, kind], count)
    yield from (starts, failures, kept, restores)


def _loads() -> Iterator[Metric]:
    """Kept beside the history, as the other counters."""
    room = SummaryMetricFamily(
        "llamaproxy_server_room_seconds", "Time that starts waited for room in memory.", labels=LABELS
    )
    load = SummaryMetricFamily(
        "llamaproxy_server_load_seconds", "Time of starts from then until ready.", labels=LABELS
    )
    evictions = CounterMetricFamily(
        "llamaproxy_server_evictions", "Times that it made room for another server.", labels=LABELS
    )
    refusals = CounterMetricFamily(
        "llamaproxy_server_refusals", "Starts refused because there never is room.", labels=LABELS
    )
    for name, loads in ServerState.objects.order_by("server__name").values_list("server__name", "loads"):
        known = Counter(loads)
        room.add_metric([name], known["loads"], known["room_ms"] / 1000)
        load.add_metric([name], known["loads"], known["load_ms"] / 1000)
        evictions.add_metric([name], known[RoomOutcome.EVICTED])
        refusals.add_metric([name], known[RoomOutcome.REFUSED])
    yield from (room, load, evictions, refusals)


class DeviceCollector(Collector):
    """Metrics of memory and GPUs, as the supervisors of nodes saw them last, at most some seconds ago."""

    def collect(self) -> Iterator[Metric]:
        labels = ["node", "device", "name"]
        size = GaugeMetricFamily(
            "llamaproxy_device_size_bytes", "Memory of the host, or of a GPU.", labels=labels
        )
        used = GaugeMetricFamily(
            "llamaproxy_device_memory_bytes",
            "The same by its use: by servers of this node (ours), by others, or free.",
            labels=[*labels, "use"],
        )
        for node in known_devices():
            for device in node.devices:
                values = [node.node, device.id, device.name]
                size.add_metric(values, device.total)
                used.add_metric([*values, "ours"], device.ours)
                used.add_metric([*values, "others"], device.strangers)
                used.add_metric([*values, "free"], device.free)
        yield from (size, used)


def render_metrics() -> bytes:
    """The text exposition format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServerCollector())
    registry.register(DeviceCollector())
    return generate_latest(registry)
