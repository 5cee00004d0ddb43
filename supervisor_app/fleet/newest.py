"""Servers with their newest lives, at a cost that does not grow with their history.

A sliced prefetch numbers all rows of the history before it keeps ten of them: with a thousand lives the whole
table goes through memory, in every thread that asks. Here an index tells where the newest begin.
"""

from __future__ import annotations

from collections import defaultdict

from django.db.models import OuterRef, Q, QuerySet, Subquery

from supervisor_app.fleet.models import LlamaServer, Run

TOGETHER = 200
"""Servers in one query for runs: SQLite takes no condition that is a thousand terms deep."""


def with_newest_runs(
    servers: QuerySet[LlamaServer], runs: QuerySet[Run], count: int
) -> list[tuple[LlamaServer, list[Run]]]:
    """Pair each of `servers` with its newest `count` of `runs`, newest first. Two queries."""
    nth = Run.objects.filter(server=OuterRef("pk")).order_by("-pk").values("pk")[count - 1 : count]
    found = list(servers.annotate(_oldest=Subquery(nth)))
    newest: defaultdict[int, list[Run]] = defaultdict(list)
    for start in range(0, len(found), TOGETHER):
        wanted = Q()
        for server in found[start : start + TOGETHER]:
            wanted |= Q(server=server.pk, pk__gte=getattr(server, "_oldest") or 0)  # noqa: B009  (annotated)
        for run in runs.filter(wanted).order_by("-pk"):
            newest[run.server_id].append(run)
    return [(server, newest[server.pk]) for server in found]
