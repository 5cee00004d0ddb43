"""Acts of people, planned work and a status page, for pictures: `python -m tests.scene_people`, after the rest."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

if TYPE_CHECKING:
    from datetime import datetime

    from supervisor_app.fleet.models import LlamaServer

ACTS = (
    # minutes ago, actor, door, action, subject, before, after, address
    (2, "grace", "page", "restart", "server gemma-3-12b", None, None, "192.0.2.17"),
    (
        6,
        "grace",
        "page",
        "begin maintenance",
        "server gpt-oss-20b-mxfp4",
        None,
        {"note": "New card"},
        "192.0.2.17",
    ),
    (
        9,
        "ada",
        "page",
        "configure",
        "key chat UI",
        {"tokens_per_month": 0},
        {"tokens_per_month": 20_000_000},
        "192.0.2.4",
    ),
    (31, "nobody logged in", "page", "fail to log in", "user grace", None, None, "198.51.100.9"),
    (47, "ada", "page", "give role", "user grace", {"role": "viewer"}, {"role": "operator"}, "192.0.2.4"),
    (80, "console", "cli", "rotate", "key nightly job", {"begins": "lp-9fXe1"}, {"begins": "lp-Qx7wZ"}, ""),
    (
        95,
        "llamaproxy.toml",
        "file",
        "configure",
        "server qwen3-30b-a3b",
        {"context": 16384},
        {"context": 32768},
        "",
    ),
)


TIMES = (
    # days ago: from, to, state; the rest of the spans is there already
    (82.0, 61.2, "ready"),
    (61.2, 61.0, "crashed"),
    (61.0, 24.1, "ready"),
    (24.1, 24.08, "crashed"),
    (24.08, 3.0, "ready"),
)


def draw() -> None:
    from supervisor_app.alerts.models import Incident, IncidentNote
    from supervisor_app.fleet.models import AuditEntry, LlamaServer, Maintenance, Span, StatusServer

    now = timezone.now()
    for ago, actor, door, action, subject, before, after, address in reversed(ACTS):
        AuditEntry.objects.create(
            at=now - timedelta(minutes=ago),
            actor=actor,
            door=door,
            action=action,
            subject=subject,
            before=before,
            after=after,
            address=address,
        )
    _versions(LlamaServer.objects.get(name="gemma-3-12b"), now)
    planned = LlamaServer.objects.get(name="gpt-oss-20b-mxfp4")
    Maintenance.objects.create(
        server=planned,
        note="New card",
        begun_by="grace",
        begun_at=now - timedelta(minutes=6),
        until=now + timedelta(hours=2),
    )
    Maintenance.objects.create(
        begun_at=now - timedelta(days=41), ended_at=now - timedelta(days=40.4), begun_by="ada"
    )
    for server in LlamaServer.objects.all():
        for since, until, state in TIMES:
            Span.objects.create(
                server=server,
                state=state,
                down=state == "crashed",
                began_at=now - timedelta(days=since),
                ended_at=now - timedelta(days=until),
            )
    for name, title in (("gemma-3-12b", "Chat"), ("gpt-oss-20b-mxfp4", "Coding"), ("qwen3-30b-a3b", "")):
        StatusServer.objects.create(server=LlamaServer.objects.get(name=name), title=title)
    incident = Incident.objects.filter(server__name="gemma-3-12b").earliest("opened_at")
    IncidentNote.objects.create(incident=incident, text="A driver hung; it is updated since.", author="grace")


def _versions(server: LlamaServer, now: datetime) -> None:
    """Two changes of a server: a larger context, then layers on the GPU."""
    from supervisor_app.fleet.models import ConfigVersion

    flags = (["-np", "4"], ["-np", "4", "-c", "32768"], ["-np", "4", "-c", "32768", "-ngl", "99"])
    for number, args in enumerate(flags, 1):
        ConfigVersion.objects.create(
            server=server,
            number=number,
            at=now - timedelta(days=7 - 2 * number),
            author=("llamaproxy.toml", "ada", "ada")[number - 1],
            values={"model_path": server.model_path, "args": args},
        )
    server.args = flags[-1]
    server.aliases = ["gemma", "chat"]
    server.save()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llamaproxy.settings")
    import django

    django.setup()
    draw()
