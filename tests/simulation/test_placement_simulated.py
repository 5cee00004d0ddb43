"""Whatever happens on a node with ten models and more, the planner of its memory keeps its promises.

`LLAMAPROXY_SIMULATIONS=10000` tries so many seeds, `LLAMAPROXY_SEED=1234` begins with this one;
`python -m tests.simulation.placement --seeds 10000` prints figures, beside those of least recently used.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from supervisor_app.core.placement.world import Need, Policy, Source
from tests.simulation.chance import chance_of
from tests.simulation.placement.clients import Request
from tests.simulation.placement.figures import Figures
from tests.simulation.placement.lru import least_recently_used
from tests.simulation.placement.machine import GIB, Device, Machine
from tests.simulation.placement.node import Node
from tests.simulation.placement.seeds import node_of, simulate
from tests.simulation.placement.servers import Server

SEED = int(os.environ.get("LLAMAPROXY_SEED", "0"))
SIMULATIONS = int(os.environ.get("LLAMAPROXY_SIMULATIONS", "200"))
BATCHES = 4
SECONDS_EACH = 0.5
"""Generous: it takes a small part of that."""
COMPARED = 60


@pytest.mark.timeout(120 + SIMULATIONS / BATCHES * SECONDS_EACH)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_simulated_node_keeps_its_promises(batch):
    for seed in range(SEED + batch, SEED + SIMULATIONS, BATCHES):
        problems = simulate(seed).problems
        replay = f"LLAMAPROXY_SEED={seed} LLAMAPROXY_SIMULATIONS=1 repeats it"
        assert not problems, "\n".join([replay, *problems])


def _figures(planner=None) -> Figures:
    figures = Figures()
    for seed in range(COMPARED):
        node = node_of(seed, planner) if planner else node_of(seed)
        node.policy = replace(node.policy, max_wait_for_busy_seconds=0.0)
        figures.add(seed, node.live())
    return figures


def test_the_planner_evicts_less_than_least_recently_used_at_no_cost_in_waiting():
    ours, theirs = _figures(), _figures(least_recently_used)
    assert ours.evictions_per_answer < 0.95 * theirs.evictions_per_answer
    assert ours.mean_wait < 1.1 * theirs.mean_wait


def test_the_simulated_worlds_see_evictions_refusals_and_deaths_for_want_of_memory():
    counts = _figures().counts
    assert min(counts[what] for what in ("answered", "refused", "evictions", "out_of_memory")) > 20


# --- Two servers, of which one fits --------------------------------------------------------------------


def _two_servers(**rules: float) -> Node:
    node = Node(chance_of("two"), node_of(0).planner, Policy(**rules))
    node.machine = Machine({"gpu0": Device("gpu0", 24 * GIB)})
    node.servers = {name: _server(name) for name in ("a", "b")}
    node.timeline.clear()
    return node


def _server(name: str) -> Server:
    devices = {"gpu0": 15 * GIB}
    return Server(
        name=name,
        true=devices,
        known=Need(devices=devices, source=Source.MEASURED),
        slots=2,
        load_seconds=5.0,
        stop_seconds=0.5,
        back_seconds=0.5,
    )


def _ask(node: Node, server: str, at: float, seconds: float) -> Request:
    request = Request(server, seconds)
    node.timeline.at(at, lambda: node.ask(request))
    return request


def _stream(node: Node, server: str, until: int) -> None:
    """Requests that overlap: its server is never idle."""
    for second in range(0, until, 2):
        _ask(node, server, second, 3.0)


def test_a_server_that_is_never_idle_is_not_evicted():
    node = _two_servers()
    _stream(node, "a", until=300)
    other = _ask(node, "b", at=60.0, seconds=1.0)
    assert node.live().problems == []
    assert other.begun > 300


def test_a_limit_of_the_wait_lets_others_in():
    node = _two_servers(max_wait_for_busy_seconds=30.0)
    _stream(node, "a", until=300)
    other = _ask(node, "b", at=60.0, seconds=1.0)
    assert node.live().problems == []
    finish, swap = 3.0, 6.0
    assert 60.0 + 30.0 < other.begun <= 60.0 + 30.0 + finish + swap


def test_two_with_queues_are_served_in_turns_that_are_longer_than_their_loads():
    node = _two_servers()
    for turn in range(60):
        _ask(node, "a", turn, 0.5)
        _ask(node, "b", turn, 0.5)
    report = node.live()
    assert report.problems == []
    assert report.answered == 120
    assert report.loads <= 6
