"""JSON and metrics of servers and devices, as programs read them."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.status import Status
from supervisor_app.fleet.models import NodeLease, Pulse, Sample
from tests.integration.building import (
    MODEL,
    OUT_OF_MEMORY,
    STARTED,
    at,
    long_ago,
    make_ready_server,
    make_server,
    make_state,
)

pytestmark = pytest.mark.django_db


# --- JSON ----------------------------------------------------------------------------------------------


def test_the_api_lists_every_server_by_name(client):
    make_server("two")
    make_ready_server("one")
    names = [server["name"] for server in client.get("/api/servers/").json()["servers"]]
    assert names == ["one", "two"]


def test_the_api_tells_all_of_the_contract(client):
    server = make_server(max_retries=7)
    make_state(
        server,
        "crashed",
        detail="Retry 1 of 7 after 1 s.",
        url="http://localhost:8134",
        served=[MODEL.as_json()],
        last_error="Out of memory (retry 1/7)",
        failure=OUT_OF_MEMORY.as_json(),
        retries=1,
        max_retries=7,
        next_retry_at=at(STARTED),
        adopted=True,
        pid=4242,
        progress={"loaded": 50, "total": 100, "percent": 50, "etaSeconds": 3.5},
        replacement={"stage": "failed", "detail": "It did not load.", "identity": None, "port": 0},
        can_roll_back=True,
        warnings=["It computes on the CPU."],
    )
    assert client.get("/api/servers/default/").json() == {
        "name": "default",
        "status": "crashed",
        "detail": "Retry 1 of 7 after 1 s.",
        "url": "http://localhost:8134",
        "models": [MODEL.as_json()],
        "lastError": "Out of memory (retry 1/7)",
        "failure": {
            "kind": "out_of_memory",
            "title": "Out of memory",
            "detail": "failed to allocate 5.1 GiB",
            "hint": "Try a smaller context (-c) or model.",
        },
        "retries": 1,
        "maxRetries": 7,
        "uptime": 0,
        "startedAt": None,
        "nextRetryAt": "2025-06-15T15:06:40.000Z",
        "adopted": True,
        "pid": 4242,
        "progress": {"loaded": 50, "total": 100, "percent": 50, "etaSeconds": 3.5},
        "draining": False,
        "unloaded": False,
        "loaded": "",
        "replacement": {"stage": "failed", "detail": "It did not load.", "pid": None},
        "canRollBack": True,
        "warnings": ["It computes on the CPU."],
        "supervised": True,
        "lastSeen": None,
        "maintenance": None,
    }


def test_the_api_counts_uptime_in_seconds(client):
    make_ready_server(started_at=long_ago())
    answer = client.get("/api/servers/default/").json()
    assert 3600 <= answer["uptime"] < 3700


# --- Metrics -------------------------------------------------------------------------------------------


def metrics(client):
    """Name and labels of each sample -> value."""
    text = client.get("/metrics").content.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_of_a_ready_server(client):
    make_ready_server(started_at=long_ago(), retries=2)
    found = metrics(client)
    label = (("server", "default"),)
    assert found["llamaproxy_server_up", label] == 1
    assert found["llamaproxy_server_retries", label] == 2
    assert 3600 <= found["llamaproxy_server_uptime_seconds", label] < 3700
    assert found["llamaproxy_server_supervised", label] == 1


def test_metrics_of_a_server_that_nobody_looks_after(client):
    make_ready_server(seen_at=long_ago())
    found = metrics(client)
    label = (("server", "default"),)
    assert found["llamaproxy_server_supervised", label] == 0
    assert found["llamaproxy_server_up", label] == 0
    assert found["llamaproxy_server_uptime_seconds", label] == 0
    assert not any(value for (name, _), value in found.items() if name == "llamaproxy_server_status")


def test_json_of_a_server_that_nobody_looks_after(client):
    make_ready_server(seen_at=long_ago())
    (told,) = client.get("/api/servers/").json()["servers"]
    assert (told["status"], told["supervised"]) == ("ready", False)
    assert told["detail"].startswith(
        f"No supervisor has reported since {told['lastSeen']}, when it was ready"
    )


# --- Devices -------------------------------------------------------------------------------------------


@pytest.fixture
def devices():
    """Node `gpu-1` has been looked at, `gpu-2` not for long, `new` not yet."""
    seen = Survey((Device(id="GPU-1", name="GPU 0: L4", total=24, free=9, ours=12),), ("GPU 1 is lost.",))
    for node, age, told in (("gpu-1", 0, seen.as_json()), ("gpu-2", 60, seen.as_json()), ("new", 0, None)):
        NodeLease.objects.create(
            node=node,
            holder="1 2 machine host",
            token="t",
            renewed_at=timezone.now() - timedelta(seconds=age),
            devices=told,
        )


def test_devices_of_nodes_whose_supervisor_reports_are_in_json(devices, client):
    assert client.get("/api/nodes/").json() == {
        "nodes": [
            {
                "node": "gpu-1",
                "devices": [
                    {
                        "id": "GPU-1",
                        "name": "GPU 0: L4",
                        "total": 24,
                        "ours": 12,
                        "strangers": 3,
                        "free": 9,
                        "note": "",
                    }
                ],
                "problems": ["GPU 1 is lost."],
            }
        ]
    }


def test_devices_are_on_the_first_page_and_ask_for_themselves_again(devices, client):
    page, part = client.get("/").content.decode(), client.get("/devices").content.decode()
    for text in (page, part):
        assert "GPU 0: L4" in text
        assert "GPU 1 is lost." in text
        assert 'hx-get="/devices"' in text


def test_a_server_holds_what_it_was_seen_to_use_in_the_last_minute(devices, client):
    server, now = make_server("chat", node="gpu-1"), int(time.time())
    make_state(server, "ready", pid=11)
    stopped = make_server("stopped", node="gpu-1")
    for each in (server, stopped):
        for begin, used in ((now - 600, 11), (now - 30, 5)):
            Sample.objects.create(
                server=each, step=1, at=begin, figures={"t": [0, 1], "memory:GPU-1": [used, used + 1]}
            )
    assert "chat</a> 6 B" in client.get("/devices").content.decode()
    Pulse.objects.create(server=server, figures={"at": now - 3, "t": [0], "memory:GPU-1": [9]})
    page = client.get("/devices").content.decode()
    assert "chat</a> 9 B" in page
    assert "stopped</a>" not in page


def test_without_devices_the_panel_is_hidden(client):
    assert 'hx-disinherit="*" hidden' in client.get("/devices").content.decode()


def test_devices_in_metrics_add_up(devices, client):
    found = {
        (name, dict(labels).get("use")): value
        for (name, labels), value in metrics(client).items()
        if name.startswith("llamaproxy_device")
    }
    assert found == {
        ("llamaproxy_device_size_bytes", None): 24,
        ("llamaproxy_device_memory_bytes", "ours"): 12,
        ("llamaproxy_device_memory_bytes", "others"): 3,
        ("llamaproxy_device_memory_bytes", "free"): 9,
    }


@pytest.mark.parametrize("status", Status)
def test_the_metric_of_the_current_status_is_1_and_the_others_are_0(status, client):
    make_state(make_server(), status)
    found = {
        dict(labels)["status"]: value
        for (name, labels), value in metrics(client).items()
        if name == "llamaproxy_server_status"
    }
    assert found == {word.value: float(word is status) for word in Status}


def test_metrics_count_starts_and_failures_by_kind(client):
    make_state(make_server(), starts=3, failures={"hung": 2, "exited": 1})
    found = metrics(client)
    assert found["llamaproxy_server_starts_total", (("server", "default"),)] == 3
    assert found["llamaproxy_server_failures_total", (("kind", "hung"), ("server", "default"))] == 2
    assert found["llamaproxy_server_failures_total", (("kind", "exited"), ("server", "default"))] == 1


def test_metrics_without_a_server_are_valid(client):
    assert metrics(client) == {}
    assert client.get("/metrics")["Content-Type"].startswith("text/plain; version=")
