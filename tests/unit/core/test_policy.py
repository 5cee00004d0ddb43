"""The policy of a server's own process, and of the one beside it during a restart without a gap."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.policy import policy_of
from supervisor_app.core.spec import HealthPolicy, RestartPolicy
from supervisor_app.core.testing import make_config

HEALTH = HealthPolicy(interval_ms=700, max_memory_mb=900, canary_minutes=5)
CONFIG = make_config(health=HEALTH, restart=RestartPolicy(max_retries=7))
WORLD = {"room_is_on": False, "in_turn": False, "keeps_context": True}


def test_the_own_process_is_decided_on_as_people_want():
    policy = policy_of(CONFIG, own=True, **WORLD)
    assert (policy.restart, policy.health) == (CONFIG.restart, HEALTH)
    assert (policy.keeps_context, policy.beside, policy.spread) == (True, False, 0.0)


def test_a_process_beside_is_neither_restarted_while_idle_nor_keeps_conversations():
    policy = policy_of(CONFIG, own=False, **WORLD)
    assert policy.health == replace(HEALTH, max_memory_mb=0, canary_minutes=0)
    assert (policy.restart, policy.keeps_context, policy.beside) == (CONFIG.restart, False, True)


@pytest.mark.parametrize(
    ("own", "room_is_on", "asks"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_a_process_beside_asks_for_room_even_where_memory_is_not_shared_out(own, room_is_on, asks):
    assert policy_of(CONFIG, own=own, **WORLD | {"room_is_on": room_is_on}).room is asks


@pytest.mark.parametrize(("spare_ports", "adopts"), [((), True), ((8200,), False)])
def test_a_stranger_s_server_is_taken_over_only_where_people_named_the_port(spare_ports, adopts):
    assert policy_of(replace(CONFIG, spare_ports=spare_ports), own=True, **WORLD).adopts is adopts
