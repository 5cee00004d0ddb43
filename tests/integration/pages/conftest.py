"""A server for the pages to show."""

from __future__ import annotations

import pytest

from tests.integration.building import (
    make_ready_server,
)


@pytest.fixture
def default():
    return make_ready_server()
