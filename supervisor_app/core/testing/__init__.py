"""Fakes of the ports: a machine in memory, on a clock that only moves when told to."""

from __future__ import annotations

from supervisor_app.core.testing.clock import FakeClock, settle
from supervisor_app.core.testing.machine import FakeProbe, FakeProcess, FakeProcesses, stranger
from supervisor_app.core.testing.records import (
    FakeContexts,
    FakeFootprints,
    FakeRoom,
    InMemoryStore,
    Lesson,
    RecordingPublisher,
)
from supervisor_app.core.testing.specs import exited, make_config, make_spec

__all__ = [
    "FakeClock",
    "FakeContexts",
    "FakeFootprints",
    "FakeProbe",
    "FakeProcess",
    "FakeProcesses",
    "FakeRoom",
    "InMemoryStore",
    "Lesson",
    "RecordingPublisher",
    "exited",
    "make_config",
    "make_spec",
    "settle",
    "stranger",
]
