"""Whatever clients, servers and the supervisor do, the gateway keeps its promises, on its fast path, too.

`LLAMAPROXY_SIMULATIONS=20000` tries so many seeds, `LLAMAPROXY_SEED=1234` begins with this one.
"""

from __future__ import annotations

import os

import pytest

from supervisor_app.gateway.plane import client
from supervisor_app.gateway.plane.fast_path import take_fast_path
from supervisor_app.gateway.records.record import Outcome
from tests.simulation.simulation import problems_of, simulate

SEED = int(os.environ.get("LLAMAPROXY_SEED", "0"))
SIMULATIONS = int(os.environ.get("LLAMAPROXY_SIMULATIONS", "200"))
BATCHES = 8
SECONDS_EACH = 1.0
"""Generous: it takes a small part of that."""


@pytest.mark.timeout(120 + SIMULATIONS / BATCHES * SECONDS_EACH)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_simulated_gateway_keeps_its_promises_and_its_fast_path_changes_nothing(batch):
    for seed in range(SEED + batch, SEED + SIMULATIONS, BATCHES):
        problems = problems_of(seed)
        replay = f"LLAMAPROXY_SEED={seed} LLAMAPROXY_SIMULATIONS=1 repeats it"
        assert not problems, "\n".join([replay, *problems])


def test_the_simulated_worlds_see_every_end_of_a_request():
    outcomes = {record.outcome for seed in range(50) for record in simulate(seed).records}
    # No request kills its servers there, and no staff cancel any.
    assert outcomes >= set(Outcome) - {Outcome.QUARANTINED, Outcome.CANCELLED}


def test_the_simulated_worlds_take_the_fast_path_again_and_again(monkeypatch):
    taken = []

    def looking_on(*request):
        exchange = take_fast_path(*request)
        taken.append(exchange is not None)
        return exchange

    monkeypatch.setattr(client, "take_fast_path", looking_on)
    for seed in range(50):
        simulate(seed)
    assert taken.count(True) > 50
