"""Memory that a server needs: on its page and in its JSON, with where it comes from."""

from __future__ import annotations

import pytest

from supervisor_app.fleet.footprint_record import Record
from supervisor_app.fleet.footprint_rows import save_records
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
