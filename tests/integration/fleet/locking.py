"""A database that is locked by somebody else."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def locked() -> Iterator[None]:
    """Let another process hold the write lock of the SQLite file, for which nobody waits for long."""
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's own way of failing")
    waited = connection.settings_dict["OPTIONS"]["timeout"]
    connection.settings_dict["OPTIONS"]["timeout"] = 0.05
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()
        connection.settings_dict["OPTIONS"]["timeout"] = waited
