"""A long body that lies on disk, and the attempts that it is passed on to."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from supervisor_app.gateway.plane import reading_on
from supervisor_app.gateway.plane.reading_on import ReadingOn

WHOLE = b"the beginning and the end"


@pytest.fixture
def disk(monkeypatch):
    """Answers of a disk, the first of which comes once it is let go."""
    held = asyncio.Event()
    reads = []

    class Spool:
        def __init__(self, *_):
            self.size = len(WHOLE)

        async def read(self, at):
            reads.append(at)
            if len(reads) == 1:
                await held.wait()
            return WHOLE[at:]

    monkeypatch.setattr(reading_on, "Spool", Spool)
    return held


async def test_a_piece_that_was_read_for_a_lost_attempt_is_not_sent_to_the_next(disk):
    body = SimpleNamespace(content_type=b"application/json", framed=lambda data: data, length=len(WHOLE))
    reading = ReadingOn(SimpleNamespace(body=body, is_over=False), None, SimpleNamespace(disk=None))
    sent = []
    sink = SimpleNamespace(write=sent.append)
    lost = asyncio.create_task(reading.pour(sink))
    await asyncio.sleep(0)
    following = reading.pour(sink)
    disk.set()
    await lost
    assert sent == []
    await following
    assert sent == [WHOLE]
