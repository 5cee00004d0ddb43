"""kill -9 of the supervisor at any moment, while all kinds of things happen, loses nothing."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.acceptance.faults.recovery_checks import LARGEST_LOG, left_behind, servers, wait_until_recovered

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.harness import Proxy

KILLS = int(os.environ.get("LLAMAPROXY_KILLS", "12"))
SEED = int(os.environ.get("LLAMAPROXY_SEED", random.randrange(10**6)))
LONGEST_START = 1.5
"""Seconds within which a supervisor does most of what it does at its start."""
NEVER_GIVES_UP = {"max_retries": 10**6, "retry_backoff_ms": 50, "max_backoff_ms": 200, "stop_grace_ms": 500}


class Life:
    """Random events around a supervisor."""

    def __init__(self, proxy: Proxy, chance: random.Random) -> None:
        self._proxy = proxy
        self._chance = chance
        self._wishes = [
            lambda: self._wish("start"),
            lambda: self._wish("stop"),
            lambda: self._wish("restart"),
        ]
        self._events: list[Callable[[], None]] = [
            self._kill_server,
            self._kill_server,
            self._other_flags,
            self._long_log,
            *self._wishes,
        ]
        self._asked = []

    def goes_on(self, seconds: float) -> None:
        """Go on for a while, in which up to three things happen."""
        moments = sorted(self._chance.uniform(0, seconds) for _ in range(self._chance.randint(0, 3)))
        begun = time.monotonic()
        for moment in moments:
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            self._chance.choice(self._events)()
        time.sleep(max(0.0, begun + seconds - time.monotonic()))

    def comes_to_rest(self) -> None:
        """All wishes are on disk."""
        for child in self._asked:
            # 1: it is on disk, and no supervisor has reported for a while.
            assert child.wait() in (0, 1), child.output
        self._asked.clear()

    def _wish(self, wish: str) -> None:
        self._asked.append(self._proxy.run("llama", wish))

    def _kill_server(self) -> None:
        for process in servers(self._proxy):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _other_flags(self) -> None:
        context = self._chance.choice(["128", "256", "512"])
        self._proxy.configure(llama_server_args=["-c", context, "-t", "1"])

    def _long_log(self) -> None:
        with (self._proxy.data_dir / "logs" / "default.log").open("ab") as log:
            log.write(b"x" * self._chance.randint(1, LARGEST_LOG * 2))


@pytest.mark.timeout(180 + 20 * KILLS)
def test_nothing_is_lost_when_the_supervisor_is_killed_at_any_moment(proxy):
    print(f"{KILLS} kills, LLAMAPROXY_SEED={SEED}")
    chance = random.Random(SEED)
    life = Life(proxy, chance)
    proxy.configure(**NEVER_GIVES_UP)
    proxy.start(web=False).wait_for_status("ready")
    for kill in range(1, KILLS + 1):
        life.goes_on(chance.uniform(0, LONGEST_START))
        proxy.stop(signal.SIGKILL)
        left = left_behind(proxy)
        proxy.start(web=chance.random() < 0.25)
        if chance.random() < 0.6:  # else the next kill comes before all is well again
            print(f"after kill {kill}")
            life.comes_to_rest()
            wait_until_recovered(proxy, left)
    life.comes_to_rest()
    wait_until_recovered(proxy, left)
    assert proxy.stop() == 0
    assert not servers(proxy)
