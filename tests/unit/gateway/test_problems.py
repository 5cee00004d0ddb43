"""Errors of the gateway: whose fault each of them is."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway import problems
from supervisor_app.gateway.access.keys import Denied
from supervisor_app.gateway.llama.dialects import Dialect
from supervisor_app.gateway.problem import Side
from supervisor_app.gateway.servers.facts import ServerFacts

FACTS = ServerFacts(name="default", status=Status.CRASHED)
FAULTS = [
    (Side.CLIENT, 400, partial(problems.bad_request, "It cannot be read.")),
    (Side.CLIENT, 400, partial(problems.too_deep)),
    (Side.CLIENT, 400, partial(problems.preset_impossible, "brief", "qwen", "changes JSON. Send JSON")),
    (Side.CLIENT, 413, partial(problems.body_too_large)),
    (Side.CLIENT, 401, partial(problems.denied, Denied(401, "invalid_api_key", "An API key is needed."))),
    (Side.CLIENT, 404, partial(problems.model_not_found, "gpt", ["llama"])),
    (Side.CLIENT, 400, partial(problems.makes_no_text, "embed", "--embedding")),
    (Side.CLIENT, 403, partial(problems.not_isolated, "default", "It caches")),
    (Side.CLIENT, 429, partial(problems.queue_full, "default", 256, 5)),
    (Side.CLIENT, 429, partial(problems.too_many_connections)),
    (Side.CLIENT, 422, partial(problems.quarantined, "default", "7", 3600)),
    (Side.CLIENT, 403, partial(problems.cancelled)),
    (Side.CLIENT, 400, partial(problems.upstream_error, 400, b"")),
    (Side.GATEWAY, 503, partial(problems.restarting)),
    (Side.GATEWAY, 503, partial(problems.no_room)),
    (Side.GATEWAY, 500, partial(problems.mistake)),
    (Side.GATEWAY, 500, partial(problems.metrics_failed)),
    (Side.SERVER, 503, partial(problems.unavailable, FACTS, 5, lasting=True)),
    (Side.SERVER, 503, partial(problems.not_ready, FACTS, 5, to_strangers=False)),
    (Side.SERVER, 503, partial(problems.hold_timeout, FACTS, 5)),
    (Side.SERVER, 502, partial(problems.upstream_crashed, FACTS, "reset", run_name="7")),
    (Side.SERVER, 500, partial(problems.upstream_error, 500, b"")),
    (Side.SERVER, 502, partial(problems.upstream_error, 302, b"")),
]


@pytest.mark.parametrize(("fault", "status", "make"), FAULTS)
def test_each_problem_says_whose_fault_it_is(fault, status, make):
    problem = make()
    assert (problem.fault, problem.status) == (fault, status)


@pytest.mark.parametrize(("fault", "status", "make"), FAULTS)
def test_statuses_below_500_are_the_clients_fault_and_no_others(fault, status, make):
    assert (status < 500) is (fault is Side.CLIENT)


def test_the_table_names_every_error():
    functions = inspect.getmembers(problems, inspect.isfunction)
    errors = {name for name, function in functions if function.__annotations__.get("return") == "Problem"}
    assert {make.func.__name__ for *_, make in FAULTS} == errors


@pytest.mark.parametrize("dialect", Dialect)
def test_no_client_is_told_whose_fault_it_is(dialect):
    problem = problems.mistake()
    bodies = {replace(problem, fault=fault).body(dialect) for fault in Side}
    assert bodies == {problem.body(dialect)}


@pytest.mark.parametrize(
    ("run_name", "names"),
    [("17", {"run": 17, "incident": "17"}), ("pid 4711", {"incident": "pid 4711"})],
    ids=["a run", "no run"],
)
def test_a_crash_is_named_by_the_number_of_its_run_where_it_has_one(run_name, names):
    assert problems.quarantined("default", run_name, 60).more == names
    assert problems.upstream_crashed(FACTS, "reset", run_name=run_name).more == names
