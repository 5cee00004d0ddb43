"""Which servers can vanish with their host, and what is made of one that may have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.sightings import Endpoint
from supervisor_app.core.status import Status
from supervisor_app.gateway.problems import HOST_SILENT, upstream_crashed
from supervisor_app.gateway.servers.backend import rank
from supervisor_app.gateway.servers.catalogue import entry
from supervisor_app.gateway.servers.elsewhere import as_reached, is_elsewhere
from supervisor_app.gateway.servers.facts import ServerFacts

HERE = "boot-1/10/20"
SILENT = ServerFacts(
    name="default",
    status=Status.READY,
    detail="Serving.",
    url="http://gpu-7:8134",
    pid=11,
    is_elsewhere=True,
    silent_since=1_750_000_000.0,
)


@pytest.mark.parametrize(
    ("url", "realm", "elsewhere"),
    [
        ("http://gpu-7:8134", None, True),
        ("http://gpu-7:8134", "boot-2/10/20", True),
        ("http://gpu-7:8134", HERE, False),
        ("http://gpu-7:8134", "boot-1/11/21", False),  # another container of this host
        ("http://gpu-7:8134", "", True),
        ("http://10.0.0.7:8134", None, True),
        ("http://localhost:8134", "boot-2/10/20", False),
        ("http://127.0.0.2:8134", None, False),
        ("http://[::1]:8134", None, False),
        ("", None, False),
    ],
)
def test_a_server_is_elsewhere_by_its_url_and_its_realm(url, realm, elsewhere):
    endpoint = None if realm is None else Endpoint(address="10.0.0.7", port=8134, uid=1, realm=realm)
    assert is_elsewhere(url, endpoint, HERE) is elsewhere


@pytest.mark.parametrize("answers", [None, True], ids=["not tried yet", "it answers"])
def test_silence_alone_takes_no_server_that_is_ready_out_of_use(answers):
    assert as_reached(SILENT, answers) == SILENT


@pytest.mark.parametrize("change", [{"silent_since": None}, {"is_elsewhere": False}], ids=["told", "here"])
def test_refused_connections_alone_take_no_server_out_of_use(change):
    facts = replace(SILENT, **change)
    assert as_reached(facts, False) == facts


def test_both_together_do():
    facts = as_reached(SILENT, False)
    assert not facts.ready
    assert not facts.spares(11)
    assert not facts.hopeless  # it may come back
    assert facts.detail == (
        "Its host does not answer, and no supervisor has reported since 2025-06-15T15:06:40.000Z."
    )


@pytest.mark.parametrize("status", [Status.STARTING, Status.CRASHED, Status.STOPPING])
def test_where_none_was_ready_there_is_nothing_to_try(status):
    facts = as_reached(replace(SILENT, status=status), None)
    assert facts.away
    assert not facts.spares(11)
    assert facts.detail == "No supervisor has reported since 2025-06-15T15:06:40.000Z."


def test_the_server_that_may_be_ready_sooner_is_asked_first():
    away, crashed = as_reached(SILENT, False), ServerFacts(name="other", status=Status.CRASHED)
    assert rank(SILENT) < rank(crashed) < rank(away) < rank(replace(away, status=Status.ERROR))


def test_lists_say_what_is_not_known():
    told = entry("default", [as_reached(SILENT, False)], 0)
    assert told["status"] == {"value": "unloaded"}
    ours = told["llamaproxy"]
    assert (ours["supervised"], ours["lastSeen"]) == (False, "2025-06-15T15:06:40.000Z")
    assert ours["detail"].startswith("Its host does not answer")
    assert "supervised" not in entry("default", [replace(SILENT, silent_since=None)], 0)["llamaproxy"]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [(as_reached(SILENT, False), "Its host does not answer."), (SILENT, HOST_SILENT)],
    ids=["given up", "found out"],
)
def test_a_request_that_was_lost_there_is_told_the_truth(facts, reason):
    problem = upstream_crashed(facts, reason, run_name="1")
    assert "was lost with its host while answering: send it again" in problem.message
    assert problem.retryable
