"""CPU time of the bars of 200 servers with a year of spans: `python -m tests.bench.bars`.

In a database of its own, in memory. Beside the bare work of this machine in the same run: to read as many
rows through sqlite3, without an ORM.
"""

from __future__ import annotations

import os
import statistics
import time
from datetime import timedelta

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext, setup_test_environment
from django.utils import timezone

SERVERS = 200
SPANS_A_DAY = 5
ROUNDS = 7


def main() -> None:
    names, seconds = prepare()
    print(f"{SERVERS} servers, {SPANS_A_DAY} spans a day of each, 400 days: summed in {seconds:.1f} s")
    _measure(names)


def prepare() -> tuple[list[str], float]:
    """Make the database. Returns the names of its servers, and the seconds that it took to sum up spans."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    settings.DATABASES["default"]["NAME"] = ":memory:"
    django.setup()
    setup_test_environment()
    call_command("migrate", verbosity=0)
    return _fill()


def _fill() -> tuple[list[str], float]:
    from supervisor_app.core.spans import SpanState
    from supervisor_app.fleet.models import LlamaServer, ServerState, Span
    from supervisor_app.fleet.span_record import sum_up

    now = timezone.now()
    step = timedelta(days=1) / SPANS_A_DAY
    states = (SpanState.READY, SpanState.CRASHED, SpanState.STARTING, SpanState.READY, SpanState.UNLOADED)
    names = [f"server-{number}" for number in range(SERVERS)]
    for port, name in enumerate(names, 20000):
        server = LlamaServer.objects.create(name=name, node="bench", port=port)
        ServerState.objects.create(server=server, status="ready", started_at=now)
        count = 400 * SPANS_A_DAY
        Span.objects.bulk_create(
            Span(
                server=server,
                state=states[number % 5],
                down=number % 5 in (1, 2),
                reason="Out of memory" if number % 5 == 1 else "",
                began_at=now - step * (count - number),
                ended_at=now - step * (count - number - 1) if number < count - 1 else None,
            )
            for number in range(count)
        )
    began = time.process_time()
    while sum_up("bench", now):
        pass
    return names, time.process_time() - began


def _measure(names: list[str]) -> None:
    from supervisor_app.fleet.availability import bars_of
    from supervisor_app.fleet.uptime import Window

    print(f"{'window':<8}{'bars':>10}{'bare':>10}{'queries':>9}")
    for window in Window:
        took, bare = [], []
        for _ in range(ROUNDS):
            with CaptureQueriesContext(connection) as captured:
                began = time.process_time()
                bars = bars_of(names, window, timezone.now())
                took.append(1000 * (time.process_time() - began))
            assert len(bars) == len(names)
            bare.append(_bare(captured.captured_queries))
        count = len(captured)
        print(
            f"{window.name:<8}{statistics.median(took):>7.0f} ms{statistics.median(bare):>7.0f} ms{count:>9}"
        )


def _bare(queries: list[dict[str, str]]) -> float:
    began = time.process_time()
    for query in queries:
        connection.connection.execute(query["sql"]).fetchall()
    return 1000 * (time.process_time() - began)


if __name__ == "__main__":
    main()
