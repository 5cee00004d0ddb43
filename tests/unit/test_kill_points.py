"""The places at which acceptance tests kill the supervisor: a function that is renamed takes its place along."""

from __future__ import annotations

import functools
import importlib

import pytest

from tests.acceptance.faults.test_killed_at_points import STEPS


@pytest.mark.parametrize("place", sorted({step.place for step in STEPS.values()}))
def test_a_place_to_be_killed_at_is_in_the_product(place):
    module, _, path = place.partition(":")
    assert callable(functools.reduce(getattr, path.split("."), importlib.import_module(module)))
