"""Simulations are not measured."""

from __future__ import annotations

import pytest

from tests.unmeasured import unmeasured


@pytest.fixture(scope="package", autouse=True)
def _unmeasured():
    with unmeasured():
        yield
