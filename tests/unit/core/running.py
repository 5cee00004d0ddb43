"""A node that runs while a test looks at it, and ends as a supervisor does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def running(node, *, settle=2, ending=60):
    """Run `node.supervisor` by `node.clock`. `settle`: seconds before the test; `ending`: as many to end in."""
    task = asyncio.create_task(node.supervisor.run())
    await node.clock.advance(settle)
    try:
        yield node
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        shutdown = asyncio.create_task(node.supervisor.shutdown())
        await node.clock.advance(ending)
        await shutdown
