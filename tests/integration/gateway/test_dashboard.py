"""The Grafana dashboard asks for what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from supervisor_app.core.devices import Device, Survey
from supervisor_app.fleet.metrics import render_metrics
from supervisor_app.fleet.models import NodeLease
from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.records.metrics import GatewayMetrics, relabel
from tests.integration.building import make_ready_server, make_record
from tests.unit.gateway.test_metrics import LLAMA

DASHBOARD = json.loads((Path(__file__).parents[3] / "docs" / "grafana-dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALL_TARGETS = [target["expr"] for panel in PANELS for target in panel["targets"]]
QUERIES = [
    *ALL_TARGETS,
    *(variable["definition"] for variable in DASHBOARD["templating"]["list"]),
]
SELECTOR = re.compile(r"((?:llamaproxy_|llamacpp:)\w+)(?:\{([^}]*)\})?")


@pytest.fixture
def offered(db):
    """Name of a sample -> its labels, of all that a gateway tells once it has seen one request."""
    make_ready_server(starts=1, failures={"exited": 1})
    seen = Survey((Device(id="host", name="Host memory", total=8, free=5, ours=1),))
    NodeLease.objects.create(
        node="local", holder="1 2 machine host", token="t", renewed_at=timezone.now(), devices=seen.as_json()
    )
    metrics = GatewayMetrics(id_of=lambda server, model: "qwen3")
    metrics.observe(make_record(ttft_ms=1.0, replays=1, usage=Usage(prompt_tokens=1, generated_tokens=1)))
    load = metrics.load_of([("default", "qwen3", 1, 1)])
    text = metrics.render(load, render_metrics().decode(), relabel(LLAMA, "default", "qwen3"))
    families = text_string_to_metric_families(text)
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def test_the_dashboard_can_be_imported_into_any_grafana():
    (source,) = DASHBOARD["__inputs"]
    assert (source["name"], source["type"], source["pluginId"]) == (
        "DS_PROMETHEUS",
        "datasource",
        "prometheus",
    )
    assert DASHBOARD["id"] is None
    own = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    assert all(target["datasource"] == own for panel in PANELS for target in panel["targets"])
    needed = {panel["type"] for panel in PANELS}
    assert {each["id"] for each in DASHBOARD["__requires"] if each["type"] == "panel"} == needed


def test_every_metric_and_label_that_the_dashboard_asks_for_exists(offered):
    asked = [(name, labels) for query in QUERIES for name, labels in SELECTOR.findall(query)]
    assert len(asked) > len(PANELS)
    for name, labels in asked:
        assert name in offered
        assert set(re.findall(r"(\w+)=~?\"", labels)) <= offered[name], name


def test_the_dashboard_shows_all_metrics_of_requests_and_servers(offered):
    parts = "_(bucket|sum|count)$"
    asked = {re.sub(parts, "", name) for query in QUERIES for name, _ in SELECTOR.findall(query)}
    told = {re.sub(parts, "", name) for name in offered if name.startswith("llamaproxy_")}
    assert told - asked == set()


def test_only_faults_of_servers_are_counted_as_not_answered():
    (panel,) = (panel for panel in PANELS if panel["title"] == "Not answered whole")
    (target,) = panel["targets"]
    assert target["expr"].startswith("sum(rate(llamaproxy_failed_requests_total{")
    assert "outcome" not in target["expr"]


def test_metrics_with_a_model_are_shown_for_the_chosen_models(offered):
    asked = [found for target in ALL_TARGETS for found in SELECTOR.findall(target)]
    for name, labels in asked:
        assert ("model=~" in labels) == ("model" in offered[name]), name


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_is_closed(query):
    for opening, closing in ("()", "{}", "[]"):
        assert query.count(opening) == query.count(closing)
    assert query.count('"') % 2 == 0


def test_no_two_panels_lie_on_each_other():
    taken = set()
    for place in (panel["gridPos"] for panel in DASHBOARD["panels"]):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
