"""Tasks that belong together and end together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Tasks:
    """Started one by one, cancelled all at once. An exception in one of them is a bug, and handed on."""

    def __init__(self, owner: str, on_bug: Callable[[BaseException], None]) -> None:
        self._owner = owner
        self._on_bug = on_bug
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"{self._owner}-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        bug = task.exception()
        if bug is not None:
            self._on_bug(bug)
