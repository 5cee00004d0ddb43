"""A writer of records at work, and the records that it has written."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from supervisor_app.core.testing import FakeClock
from supervisor_app.gateway.edge.writer import RecordWriter
from supervisor_app.traffic.models import RequestRecord
from tests.deadline import DEADLINE
from tests.integration.building import STARTED, db, make_record

NEVER = 3600.0


@asynccontextmanager
async def writing(**options):
    taking = RecordWriter(**{"flush_seconds": 0.02, "clock": FakeClock(wall=STARTED), **options})
    taking.start()
    try:
        yield taking
    finally:
        await taking.aclose()


def kept():
    return [round(row.at.timestamp() - STARTED) for row in RequestRecord.objects.order_by("pk")]


async def until_kept(expected):
    async with asyncio.timeout(DEADLINE):
        while (found := await db(kept)) != expected:
            assert len(found) <= len(expected), found
            await asyncio.sleep(0.01)


def numbered(count):
    return [make_record(at=STARTED + number) for number in range(count)]


def put_all(taking, records):
    for record in records:
        taking.put(record)
