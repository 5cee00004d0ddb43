"""Launch and rules of a server: frozen values, resolved from the configuration before use."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.fetching import fetches

if TYPE_CHECKING:
    from supervisor_app.core.sightings import Endpoint

PORT_FLAG = "--port"
SLOWER = 10
"""Factor of the longest pause, with `retry_forever`, between tries after the retries are used up."""
FIRST_PAUSE = 0.01
"""Seconds between the first two checks of a start."""
PAUSE_GROWTH = 1.1
MOST_GROWN = 250
"""Checks after which the pause grows no more; it is longer than any interval by then."""
CANARY_SECONDS = 180.0
"""Time for one token, where `stall_seconds` says nothing."""


@dataclass(frozen=True, kw_only=True)
class LaunchSpec:
    """Everything needed to start one llama-server and to find it again.

    Two specs that compare equal start the same process: the supervisor restarts a server when its spec
    changes, and only then.
    """

    host: str
    port: int
    command: tuple[str, ...]
    """The executable and what must come before the flags; empty when none was found."""
    engine_problem: str = ""
    """Reason for which there is none, if it is named and not described; without a full stop."""
    args: tuple[str, ...]
    """The flags: never a secret among them, every user of the machine can read them."""
    model_path: str | None = None
    """Path of the model; None in router mode (`--models-dir`)."""
    cwd: str = "."
    api_key: str = field(default="", repr=False)
    """Goes to the child as LLAMA_API_KEY and along with our own probes."""
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Variables for the child beside our own: from a file alone, and not to be shown."""
    has_own_key: bool = field(default=False, compare=False)
    """People have named no key, so it is a random one, which only processes that we start know."""
    trusted_uids: frozenset[int] = field(default=frozenset(), compare=False)
    """Users beside our own and root whose llama-servers may be taken over."""
    endpoint: Endpoint | None = field(default=None, compare=False)
    """Address at which the process was proved to listen: once it is known, everything is asked there and
    nowhere else, and the key is sent."""
    slot_dir: str = field(default="", compare=False)
    """Folder of `--slot-save-path`, if we set it: its conversations are kept over a planned end."""
    advertised_host: str = field(default="", compare=False)
    """Name of this host for others; empty when it listens for this host only."""

    @property
    def argv(self) -> tuple[str, ...]:
        return self.command + self.args

    @property
    def fetches(self) -> bool:
        """May the server have to download its model first?"""
        return fetches(self.args)

    @property
    def probe_host(self) -> str:
        """An address to connect to: a wildcard bind is reached over loopback."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104

    @property
    def url(self) -> str:
        """Address at which this host reaches the server."""
        return self._url_at(self.endpoint.address if self.endpoint else self.probe_host)

    @property
    def found(self) -> LaunchSpec:
        """Spec for a process that somebody else has started: it must not learn our random key."""
        return replace(self, api_key="") if self.has_own_key else self

    def at(self, endpoint: Endpoint | None) -> LaunchSpec:
        """Return this spec with the address at which the server is asked."""
        return replace(self, endpoint=endpoint)

    def on_port(self, port: int) -> LaunchSpec:
        """Return this spec with another port, also among its flags."""
        flags = tuple(
            str(port) if before == PORT_FLAG and word == str(self.port) else word
            for before, word in pairwise(("", *self.args))
        )
        return replace(self, port=port, args=flags)

    @property
    def public_url(self) -> str:
        """Address at which others reach the server: pages show it and gateways use it."""
        return self._url_at(self.advertised_host or self.probe_host)

    def _url_at(self, host: str) -> str:
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def model_file(self) -> Path | None:
        """The model as an absolute path, for messages and for watching it."""
        return None if self.model_path is None else Path(self.cwd, self.model_path)

    @property
    def without_slots(self) -> LaunchSpec:
        """Spec of a launch that keeps no conversations."""
        flag = ("--slot-save-path", self.slot_dir)
        pairs = [index for index in range(len(self.args) - 1) if self.args[index : index + 2] == flag]
        args = self.args[: pairs[-1]] + self.args[pairs[-1] + 2 :] if pairs else self.args
        return replace(self, args=args, slot_dir="")


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """Rules of restarts: when to try again, when to give up, how long to wait for an end. Milliseconds."""

    max_retries: int = 5
    retry_backoff_ms: int = 1000
    max_backoff_ms: int = 30_000
    stable_after_ms: int = 60_000
    """Ready for so long without a break: the retry counter falls back to 0."""
    stop_grace_ms: int = 5000
    drain_seconds: int = 30
    """Time for requests in flight before an end that somebody asked for. 0: none."""
    retry_forever: bool = False
    """Go on after the retries are used up, `SLOWER` times more slowly, instead of giving up."""

    def backoff(self, retry: int) -> float:
        """Seconds before the retry with this number (1, 2, …): doubling, capped."""
        # The shift is bounded: beyond 2**40 every backoff is over any cap.
        doubled = self.retry_backoff_ms * (1 << min(max(retry - 1, 0), 40))
        return min(doubled, self.max_backoff_ms) / 1000

    @property
    def slow_backoff(self) -> float:
        """Seconds between two tries of a server whose retries are used up."""
        return SLOWER * self.max_backoff_ms / 1000


@dataclass(frozen=True, kw_only=True)
class HealthPolicy:
    """Rules of health checks: how often to ask, how long to wait, when silence means down."""

    interval_ms: int = 1000
    timeout_ms: int = 5000
    max_checks: int = 60
    """Number of checks without an answer that ends a start."""
    max_load_seconds: int = 600
    """Time for which a server may answer 503 "Loading model": that is progress, not silence."""
    max_misses: int = 3
    """Missed checks in a row after which a ready server counts as hung."""
    stall_seconds: int = 180
    """Work in flight and nothing moves for so long: hung, whatever /health says. 0: never."""
    max_memory_mb: int = 0
    """Memory of its own, swapped out or not, over which it is restarted once it is idle. 0: no limit."""
    canary_minutes: float = 0
    """Idle for so long: it is asked for one token, to see whether it still computes. 0: never."""

    @property
    def max_memory(self) -> int:
        """Bytes."""
        return self.max_memory_mb * 2**20

    @property
    def canary_timeout(self) -> float:
        """Seconds that one token may take."""
        return self.stall_seconds or CANARY_SECONDS

    @property
    def max_silence(self) -> float:
        """Seconds."""
        return self.max_checks * self.interval_ms / 1000

    def starting_interval(self, checks: int) -> float:
        """Seconds until the next check of a start: 10 ms first, each a tenth longer, up to the interval.

        Each pause is a tenth of the time that has passed, so what is ready is seen at most a tenth late: a
        tiny model after 30 ms, a large one after seconds. Ten seconds take 48 checks.
        """
        return min(FIRST_PAUSE * PAUSE_GROWTH ** min(checks, MOST_GROWN), self.interval_ms / 1000)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Claim of a server to memory that it shares with others, where room is made for servers."""

    group: str = ""
    """Servers of a group share a limit of how many are loaded; empty: none."""
    pinned: bool = False
    priority: int = 0
    """Higher goes first."""
