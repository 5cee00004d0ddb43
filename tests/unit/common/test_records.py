"""Copies of frozen records."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from supervisor_app.common.records import replace
from supervisor_app.core.lifecycle import Phase, State


def test_a_copy_is_as_the_standard_library_makes_it():
    state = State(attempt=3, phase=Phase.SERVING, deaths=(1, 2))
    changed = replace(state, attempt=4, phase=Phase.ENDING)
    assert changed == dataclasses.replace(state, attempt=4, phase=Phase.ENDING)
    assert state == State(attempt=3, phase=Phase.SERVING, deaths=(1, 2))


def test_a_name_that_is_no_field_is_refused():
    wrong: Any = {"atempt": 1}
    with pytest.raises(TypeError, match="State has no atempt"):
        replace(State(), **wrong)
