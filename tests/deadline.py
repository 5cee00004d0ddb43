"""The time that tests wait for what must come."""

from __future__ import annotations

DEADLINE = 60.0
"""Seconds. What takes a moment takes many on a busy machine, and no test that holds waits for so long."""
