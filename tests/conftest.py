"""How many tests run at once, and what fails each of them."""

from __future__ import annotations

import os

import pytest

from supervisor_app.gateway.plane.phases import illegal_steps

illegal_steps.are_raised = True


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run the whole suite in one worker more than there are cores, because half of its tests wait for processes.

    A choice of tests runs in this process: its output is seen at once, and it needs no workers to start.
    """
    is_all = config.args_source is not pytest.Config.ArgsSource.ARGS
    return (os.cpu_count() or 1) + 1 if is_all else 0
