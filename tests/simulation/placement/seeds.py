"""A seed's world, lived with one planner or another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core.placement.plan import plan
from tests.simulation.chance import chance_of
from tests.simulation.placement.node import Node, policy_by

if TYPE_CHECKING:
    from tests.simulation.placement.node import Planner, Report


def node_of(seed: int, planner: Planner = plan) -> Node:
    """Always the same for the same seed: devices, servers, strangers, clients, accidents and rules."""
    chance = chance_of("placement", seed)
    return Node(chance, planner, policy_by(chance))


def simulate(seed: int, planner: Planner = plan) -> Report:
    return node_of(seed, planner).live()
