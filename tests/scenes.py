"""Rows of an installation in a certain state, for pictures and for tests in a browser.

`python -m tests.scenes NAME` writes one into the migrated database of LLAMAPROXY_DATA_DIR.
"""

from __future__ import annotations

import json
import math
import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.utils import timezone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from supervisor_app.fleet.models import LlamaServer

GIB = 2**30
MODELS = ("qwen3-30b-a3b-q4_k_m", "gemma-3-12b-it-q6_k", "gpt-oss-20b-mxfp4", "nomic-embed-text-v2-f16")
SIZES = (18.6, 10.2, 12.8, 0.5)
GROUPS = ("chat", "chat", "coding", "embedding")
LONG = timedelta(days=1)


def draw(scene: str) -> None:
    """Write the rows of a scene: `empty`, `one`, `three`, with a crash, or a number of servers."""
    counts = {"empty": 0, "one": 1, "three": 3}
    count = counts.get(scene) or int(scene if scene.isdigit() else 0)
    nodes = ("gpu-1",) if count <= 3 else ("gpu-1", "gpu-2", "mac-studio")
    for node in nodes[: max(1, count)] if count else ():
        _node(node)
    servers = [_server(number, nodes[number % len(nodes)], count) for number in range(count)]
    _incidents([server for number, server in enumerate(servers) if number % 16 == 1])
    _shelf(servers)
    _keys()
    _people()
    for server in servers[:3]:
        _samples(server, int(timezone.now().timestamp()), works=server.state.status == "ready")
    _in_flight([server for number, server in enumerate(servers) if number % 4 in (0, 2)])


def _people() -> None:
    """An operator, an admin who has not opened the link yet, and a viewer who left."""
    from django.contrib.auth.models import Group, User

    for name, role, has_left in (
        ("grace", "operator", False),
        ("margaret", "admin", False),
        ("linus", "viewer", True),
    ):
        password = None if name == "margaret" else "of-them-all"
        seen = None if name == "margaret" else timezone.now() - timedelta(days=41 if has_left else 0, hours=2)
        user = User.objects.create_user(name, password=password, is_active=not has_left, last_login=seen)
        user.groups.add(Group.objects.get(name=role))


def _keys() -> None:
    """A key in daily use with a budget, one that was rotated, and one that is switched off."""
    from supervisor_app.traffic.models import ApiKey, UsageDay

    now = timezone.now()
    known: dict[str, dict[str, Any]] = {
        "chat UI": {
            "note": "Ada, the whole team",
            "tokens_per_month": 20_000_000,
            "requests_per_minute": 120,
        },
        "nightly job": {
            "allowed_models": ["gemma-3-12b"],
            "allowed_families": ["chat", "embeddings"],
            "old_digest": "0" * 64,
            "old_until": now + LONG,
        },
        "old laptop": {"enabled": False},
    }
    for number, (name, fields) in enumerate(known.items()):
        used = now - timedelta(minutes=7 + 3000 * number)
        prefix, digest = f"lp-{'kQx7wZ2m'[number:][:5]}", f"{number + 1:064x}"
        known_as = {"prefix": prefix, "digest": digest, "last_used_at": used, **fields}
        ApiKey.objects.update_or_create(name=name, defaults=known_as)
        sums = {"requests": 340, "prompt_tokens": 1_204_332, "generated_tokens": 90_712}
        UsageDay.objects.update_or_create(day=used.date(), key=name, model="qwen3", defaults=sums)


def _shelf(servers: Sequence[LlamaServer]) -> None:
    """The models of the servers, and one that does not fit and nobody uses."""
    from supervisor_app.modelfiles.models import ModelFile

    now = timezone.now()
    for number, server in enumerate(servers[: len(MODELS)]):
        ModelFile.objects.create(
            node=server.node,
            path=server.model_path,
            name=server.name,
            architecture="qwen3moe",
            quantization="Q4_K_M",
            parameters=30_500_000_000,
            context=32_768,
            size=int(SIZES[number] * GIB),
            modified_at=now,
            used_by=[server.name],
            fits=True,
            fit=f"Needs {SIZES[number]} GiB of 22.8 GiB on GPU 0 (measured).",
        )
    ModelFile.objects.create(
        node="gpu-1",
        path="/srv/models/unsloth/Qwen3-235B-GGUF/Qwen3-235B-Q2_K-00001-of-00002.gguf",
        parts=2,
        name="Qwen3 235B",
        architecture="qwen3moe",
        quantization="Q2_K",
        parameters=235_000_000_000,
        context=262_144,
        size=80 * GIB,
        modified_at=now,
        fits=False,
        fit="`Qwen3 235B` needs about 84 GiB (estimated) on GPU 0. Free are 22.8 GiB.",
    )


def _node(node: str) -> None:
    from supervisor_app.fleet.models import NodeLease

    devices = [
        {"id": "host", "name": "Host", "total": 64 * GIB, "free": 41 * GIB, "ours": 6 * GIB, "note": ""},
        {
            "id": "GPU-0",
            "name": "GeForce RTX 4090",
            "total": 24 * GIB,
            "free": 3 * GIB,
            "ours": 19 * GIB,
            "note": "",
        },
    ]
    NodeLease.objects.create(
        node=node,
        holder=f"1 0 elsewhere {node}",
        token=node,
        renewed_at=timezone.now(),
        devices={"devices": devices, "problems": []},
    )


def _server(number: int, node: str, count: int) -> LlamaServer:
    from supervisor_app.fleet.models import Footprint, LlamaServer

    kind = number % len(MODELS)
    name = (
        MODELS[kind].split("-q")[0].split("-it")[0] if count <= len(MODELS) else f"{GROUPS[kind]}-{number:02}"
    )
    server = LlamaServer.objects.create(
        name=name,
        node=node,
        port=8134 + number,
        model_path=f"/srv/models/{MODELS[kind]}.gguf",
        group=GROUPS[kind] if count > 3 else "",
    )
    need = Footprint.objects.create(
        node=node,
        identity=name,
        build="b11669",
        runs=3,
        measured={"GPU-0": int(SIZES[kind] * GIB), "host": int(0.6 * GIB)},
    )
    status = "crashed" if number == 1 and count > 1 else "error" if number == 17 else "ready"
    status = "initial" if number % 7 == 3 else "starting" if number == 22 else status
    _state(server, status, number, footprint=need)
    return server


def _state(server: LlamaServer, status: str, number: int, **fields: Any) -> None:
    from supervisor_app.fleet.models import Run, ServerState

    now = timezone.now()
    failure = {
        "kind": "gpu_out_of_memory",
        "title": "GPU out of memory",
        "detail": "cudaMalloc failed: out of memory",
        "hint": "Try a smaller context (-c), fewer GPU layers (-ngl) or a smaller model.",
        "permanent": False,
    }
    began = now - timedelta(hours=3 + number, minutes=7 * number)
    detail = {
        "ready": f"Serving 1 model on http://{server.node}:{server.port}.",
        "crashed": "GPU out of memory: cudaMalloc failed: out of memory. Retry 2 of 5 after 2 s.",
        "error": "GPU out of memory: cudaMalloc failed: out of memory. "
        "Gave up after 5 retries: press Start to try again.",
        "starting": "Loading the model.",
        "initial": f"Not running. Start it to serve http://{server.node}:{server.port}.",
    }[status]
    down = status in ("crashed", "error")
    moments = {"down_since": now - timedelta(minutes=2), "next_retry_at": now + timedelta(seconds=90)}
    fields |= {"failure": failure, "retries": 2, **moments} if down else {}
    if status in ("ready", "starting"):
        fields |= {"started_at": began if status == "ready" else now, "pid": 4000 + number}
    if status == "starting":
        fields |= {"progress": {"loaded": 5 * GIB, "total": 12 * GIB, "percent": 41, "etaSeconds": 14.0}}
    if status == "ready":
        name = server.model_path.rsplit("/", 1)[-1]
        fields |= {
            "served": [
                {"id": name, "name": name, "size": 12 * GIB, "type": "llama", "status": "available"}
                | {"modified_at": int(began.timestamp()) - 90000}
            ]
        }
    ServerState.objects.create(
        server=server,
        status=status,
        detail=detail,
        version=1,
        seen_at=now + LONG,
        url=f"http://{server.node}:{server.port}",
        **fields,
    )
    _spans(server, status, now)
    told = {"failure_kind": failure["kind"], "failure_title": failure["title"]}
    for back in range(3, 0, -1):
        start = began - timedelta(hours=5 * back)
        Run.objects.create(
            server=server,
            started_at=start,
            ready_at=start + timedelta(seconds=9),
            ended_at=start + timedelta(hours=4),
            exit_code=1 if back == 2 else 0,
            **(told | {"failure_hint": failure["hint"]} if back == 2 else {}),
        )
    lasting = {"ended_at": now - timedelta(minutes=2), "exit_code": 1, **told} if down else {}
    if status != "initial":
        Run.objects.create(server=server, started_at=began, ready_at=began + timedelta(seconds=8), **lasting)


def _spans(server: LlamaServer, status: str, now: datetime) -> None:
    """Three days with a downtime of half an hour, and the state of now."""
    from supervisor_app.fleet.span_tables import Span

    reason = "GPU out of memory"
    down = status in ("crashed", "error")
    last = {"initial": "stopped", "error": "crashed"}.get(status, status)
    moments = [
        timedelta(days=3),
        timedelta(hours=9, minutes=40),
        timedelta(hours=9, minutes=8),
        timedelta(minutes=2),
    ]
    states = [("ready", False), ("crashed", True), ("ready", False), (last, down)]
    for (state, is_down), ago, end in zip(states, moments, [*moments[1:], None], strict=True):
        Span.objects.create(
            server=server,
            state=state,
            down=is_down,
            reason=reason if is_down else "",
            began_at=now - ago,
            ended_at=None if end is None else now - end,
        )


def _incidents(servers: Sequence[LlamaServer]) -> None:
    """An open incident of each, two that are over, and whom they were told."""
    from supervisor_app.alerts.models import AlertChannel, Delivery, Incident
    from supervisor_app.core.status import Failure, FailureKind

    if not servers:
        return
    now = timezone.now()
    addresses = {"ops": "slack://T0/B0/secret", "pager": "ntfys://me:secret@ntfy.example.org/pager"}
    channels = [
        AlertChannel.objects.get_or_create(name=name, defaults={"url": url})[0]
        for name, url in addresses.items()
    ]
    memory = Failure(
        kind=FailureKind.GPU_OUT_OF_MEMORY,
        permanent=False,
        title="GPU out of memory",
        detail="cudaMalloc failed: out of memory",
        hint="Try a smaller context (-c).",
    )
    hung = Failure(
        kind=FailureKind.HUNG,
        permanent=False,
        title="Hung",
        detail="no token in 60 s while 2 requests ran",
        hint="",
    )
    for server in servers:
        for ago, lasted, failure in (
            (timedelta(minutes=2), None, memory),
            (timedelta(hours=9, minutes=40), timedelta(minutes=32), memory),
            (timedelta(days=2), timedelta(minutes=4), hung),
        ):
            began = now - ago
            incident = Incident.objects.create(
                server=server,
                opened_at=began,
                recovered_at=began + lasted if lasted else None,
                closed_at=began + lasted + timedelta(minutes=1) if lasted else None,
                ending="recovered" if lasted else "",
                worst="crashed",
                failure=failure.as_json(),
                failure_kind=failure.kind.value,
            )
            for channel in channels:
                lost = channel.name == "pager" and failure is hung
                Delivery.objects.create(
                    channel=channel,
                    incident=incident,
                    event="hung" if failure is hung else "crashed",
                    alert={},
                    state="failed" if lost else "sent",
                    last_error="The address did not answer within 10 s." if lost else "",
                )


def _samples(server: LlamaServer, now: int, *, works: bool) -> None:
    """A day of figures, and for a server that works the last ten minutes by the second."""
    from supervisor_app.fleet import sample_record
    from supervisor_app.fleet.models import Sample

    def figures(at: int) -> dict[str, float]:
        wave = 0.5 + 0.5 * math.sin(at / 97) * math.sin(at / 1300)
        speeds = {
            "generated": round(60 * wave, 1),
            "prefilled": round(900 * wave**4, 1),
            "in_flight": round(3 * wave),
        }
        memory = {
            "memory:host": 0.6 * GIB,
            "memory:GPU-0": 18.6 * GIB,
            "waiting": round(max(0.0, 4 * wave - 3)),
        }
        rest = {"context": 4000 + round(9000 * wave), "context_size": 32768, "cpu": round(1.5 * wave, 2)}
        return (
            speeds
            | memory
            | rest
            | {"ttft": 200 + round(800 * wave), "itl": 24.0, "cached": round(1 - wave, 2)}
        )

    minute = now // 60 * 60
    rows = [
        Sample(
            server=server,
            step=60,
            at=at,
            figures={
                name: [value, value if name == "cached" else 1.3 * value]
                for name, value in figures(at).items()
            },
        )
        for at in range(minute - 86_400, minute, 240)
    ]
    Sample.objects.bulk_create(rows)
    if works:
        seconds = [(at, figures(at)) for at in range(now - 600, now)]
        slots = [
            {
                "id": number,
                "task": number,
                "works": number < 1,
                "cached": 900,
                "processed": 3100,
                "decoded": 812,
                "used": 4812,
                "size": 32768,
                "shared": 32768,
            }
            for number in range(2)
        ]
        sample_record.write(server.node, {server.name: seconds})
        sample_record.write_pulses(server.node, {server.name: (slots, seconds[-3:])})


def _in_flight(servers: Sequence[LlamaServer]) -> None:
    from supervisor_app.traffic.models import GatewaySight

    counts = {
        server.name: [1 + number % 3, number % 2, 41.0 - number] for number, server in enumerate(servers)
    }
    GatewaySight.objects.update_or_create(
        gateway="gateway",
        defaults={
            "seen_at": timezone.now(),
            "total": len(counts),
            "counts": json.dumps(counts),
            "requests": "[]",
        },
    )


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llamaproxy.settings")
    import django

    django.setup()
    draw(sys.argv[1])
