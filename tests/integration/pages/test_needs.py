"""Memory that a server needs: on its page and in its JSON, with where it comes from."""

from __future__ import annotations

import pytest
from django.utils import timezone

from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.fleet.footprint_record import Record
from supervisor_app.fleet.footprint_rows import save_records
from supervisor_app.fleet.models import LlamaServer, NodeLease, this_node
from supervisor_app.fleet.need_report import report_server
from tests.integration.building import make_server, make_state

GIB = 2**30
PEAK = {"GPU-1": 11 * GIB, "host": GIB // 4}
RECORD = Record(identity="one", build="b11669", model="m.gguf", estimated={"GPU-1": 10 * GIB, "host": GIB})

pytestmark = pytest.mark.django_db


@pytest.fixture
def needing():
    """Make a server that goes by a record."""

    def make(record, name="big"):
        server = make_server(name)
        make_state(server, "ready", version=1)
        link = record.identity, record.build
        assert save_records(server.node, {link: record}, {name: link}) == []

    return make


def test_the_page_says_how_much_it_needs_where_and_how_that_is_known(client, needing):
    needing(RECORD.after_run(PEAK, "run 1", 1_790_000_000.0))
    page = client.get("/servers/big/").content.decode()
    assert "11.2 GiB (measured in 1 run, build b11669)" in page
    assert "11.0 GiB" in page
    assert "256 MiB" in page


def test_an_estimate_is_shown_as_one(client, needing):
    needing(RECORD)
    assert "About 11 GiB (estimated)" in client.get("/servers/big/").content.decode()


def test_a_server_of_which_nothing_is_known_says_nothing(client):
    make_server("big")
    assert "What it needs" not in client.get("/servers/big/").content.decode()
    answer = client.get("/api/servers/big/footprint")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_footprint")


def test_the_json_of_a_server_has_its_need_in_bytes(client, needing):
    needing(RECORD.after_run(PEAK, "run 1", 1_790_000_000.0).after_want({"GPU-1": 0}, PEAK, 1_790_000_000.0))
    told = client.get("/api/servers/big/footprint").json()
    assert told["source"] == "measured"
    assert told["bytes"] == {"GPU-1": round(13.2 * GIB), "host": GIB // 4}
    assert told["total"] == sum(told["bytes"].values())
    assert (told["runs"], told["build"], told["raisedPercent"]) == (1, "b11669", 20)
    assert "ran out of memory" in told["sentence"]


def preview(client, **changes):
    """Return the words of the configuration of `tiny` while somebody types."""
    form = client.get("/servers/tiny/config/").context["form"]
    said = {field.name: field.value() for field in form}
    typed = {name: value for name, value in said.items() if value not in (None, "") and value is not False}
    return client.post("/servers/tiny/config/preview", typed | changes).content.decode()


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.gguf"
    make_demo_model(path)
    make_server("tiny", model_path=str(path))
    return path


def hold_node(total):
    seen = {"id": "host", "name": "Host", "total": total, "free": total, "ours": 0, "note": ""}
    NodeLease.objects.create(
        node=this_node(),
        holder="1 0 m h",
        token="t",
        renewed_at=timezone.now(),
        devices={"devices": [seen], "problems": []},
    )


def test_a_configuration_says_whether_it_fits_before_it_is_applied(staff_client, tiny):
    hold_node(64 * GIB)
    page = preview(staff_client, args="-c 512")
    assert "<b>Fits.</b> Needs about" in page
    assert "on the host (estimated)" in page


def test_a_configuration_that_does_not_fit_says_so(staff_client, tiny):
    hold_node(GIB // 2)
    assert "<b>Does not fit.</b>" in preview(staff_client, args="-c 512")


def test_a_measured_need_is_said_as_one(staff_client, tiny):
    hold_node(64 * GIB)
    server = LlamaServer.objects.get()
    launch = report_server(server, (), ()).launch.fresh
    measured = launch.after_run({"host": 3 * GIB}, "run 1", 1_790_000_000.0)
    save_records(server.node, {(measured.identity, measured.build): measured}, {})
    assert "Needs 3.0 GiB of" in preview(staff_client)


def test_a_model_that_is_not_there_is_told_and_a_node_without_a_supervisor_says_no_verdict(
    staff_client, tiny
):
    assert "There is no file /nowhere/m.gguf here." in preview(staff_client, model_path="/nowhere/m.gguf")
    page = preview(staff_client)
    assert "Needs about" in page
    assert "Fits." not in page
    tiny.write_text("nonsense")
    assert "cannot be read as a model" in preview(staff_client)
