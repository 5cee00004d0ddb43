"""Looks whether servers on other hosts whose supervisor is silent still take connections."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from supervisor_app.gateway.servers.elsewhere import as_reached

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor_app.gateway.plane.gateway import Gateway
    from supervisor_app.gateway.servers.backend import Backend
    from supervisor_app.gateway.servers.facts import ServerFacts
    from supervisor_app.gateway.servers.upstream import Connection

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
TRIES = 2
"""Tries, so that a lost packet ends no streams."""


class Lookout:
    """`run` looks; `judge` tells what was seen."""

    def __init__(self, gateway: Gateway, changed: Callable[[], None]) -> None:
        """`changed`: what `judge` says is another thing now."""
        self._gateway = gateway
        self._changed = changed
        self._answers: dict[str, bool] = {}
        """Did a server whose supervisor is silent take the last connection that was tried? By name."""

    def judge(self, servers: Mapping[str, ServerFacts]) -> dict[str, ServerFacts]:
        """Add what was seen of them; what was seen before a supervisor spoke again is forgotten."""
        for name in list(self._answers):
            is_over = name not in servers or not _is_in_doubt(servers[name])
            if is_over and not self._answers.pop(name):
                log.info("✅ [GATEWAY] %s: its supervisor reports again", name)
        return {name: as_reached(facts, self._answers.get(name)) for name, facts in servers.items()}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            doubtful = [each for each in self._gateway.all if _is_in_doubt(each.facts)]
            await asyncio.gather(*map(self._look, doubtful))

    async def _look(self, backend: Backend) -> None:
        name, answers = backend.facts.name, False
        for _ in range(TRIES):
            answers = answers or await takes_connections(backend)
        if answers == self._answers.get(name) or not _is_in_doubt(backend.facts):
            return
        self._answers[name] = answers
        if answers:
            log.info("⚠️ [GATEWAY] %s: no supervisor reports, but it can be reached: it stays in use", name)
        else:
            log.warning("⚠️ [GATEWAY] %s: no supervisor reports, and its host does not answer", name)
        self._changed()


def _is_in_doubt(facts: ServerFacts) -> bool:
    return facts.is_elsewhere and facts.silent_since is not None


async def takes_connections(backend: Backend) -> bool:
    """Over a connection of its own, on which nothing is asked."""
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def made(connection: Connection) -> None:
        connection.abort()
        _settle(answer, value=True)

    connecting = backend.pool.connect(made, lambda reason: _settle(answer, value=False))
    try:
        return await answer
    finally:
        connecting.cancel()


def _settle(answer: asyncio.Future[bool], *, value: bool) -> None:
    if not answer.done():
        answer.set_result(value)
