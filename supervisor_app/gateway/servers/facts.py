"""What the gateway is told about servers. Values only: `survey` reads them, `link` hears them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING

from supervisor_app.core.settings import BY_FIELD
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.gateway.llama.listing import Listing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.sightings import Endpoint

FROM_OUTSIDE = (SIGKILL, SIGTERM)
BY_OUR_HAND = (FailureKind.HUNG, FailureKind.NEVER_READY)
"""Ended by its supervisor: a long prompt may look like a hang, and must not be taken for poison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a life of a server ended."""

    blameless: bool
    """A wish ended it, its supervisor for its silence, or SIGKILL or SIGTERM from outside: no request is
    suspected."""
    sentence: str = ""


def end_of(*, kind: str, signal: int | None, adopted: bool, title: str) -> End:
    """`kind` of the failure; empty when there was none."""
    from_outside = kind == FailureKind.KILLED_BY_SIGNAL and signal in FROM_OUTSIDE
    untold = kind == FailureKind.UNKNOWN and adopted
    return End(blameless=not kind or from_outside or untold or kind in BY_OUR_HAND, sentence=title)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """One server as its supervisor published it, with what people have configured for the gateway."""

    name: str
    node: str = ""
    """The host whose supervisor runs it."""
    version: int = 0
    status: Status = Status.INITIAL
    detail: str = ""
    """The supervisor's sentence."""
    url: str = ""
    pid: int | None = None
    endpoint: Endpoint | None = None
    """Where its supervisor has proved that it listens."""
    run: int | None = None
    """Number of the run that is open, which has its own page; None while there is none."""
    wanted: bool = True
    """It is meant to run."""
    wakes: bool = False
    """It was stopped because nobody asked for it: asking starts it."""
    models: tuple[str, ...] = ()
    """What it serves, by every name: a client may use any."""
    offered: tuple[str, ...] = ()
    """The same, one name for each model, which stays the same whatever the server does: for lists."""
    configured: tuple[str, ...] = ()
    """Those of its names that it has whatever it says itself."""
    launch: str = ""
    """What it is started with, as a fingerprint: what it has said before means nothing with another one."""
    listing: Listing = field(default_factory=Listing)
    """What it said of its models, also while it is down."""
    is_router: bool = False
    """It uses the model that it is asked for; any other server has one, whatever it is asked for."""
    caches_prompts: bool = True
    """It serves from its cache, unless a request or its flags say otherwise."""
    is_verbose: bool = False
    """It was started with `--verbose`: its answers also tell how they were asked for."""
    api_key: str = field(default="", repr=False)
    """That the process which runs asks for."""
    keys: tuple[str, str] | None = field(default=None, repr=False)
    """Of a process that its supervisor started, and of one that it found: that one knows no random key."""
    adopted: bool = False
    capacity: int = 0
    """Requests at once as configured; 0: as many as it has slots."""
    max_queue: int = BY_FIELD["max_queue"].default
    hold_seconds: float = BY_FIELD["hold_seconds"].default
    start_seconds: float | None = None
    """How long its last starts took; None: it never got ready."""
    retry_at: float | None = None
    """When its supervisor tries again, in Unix seconds."""
    ends: Mapping[int, End] = field(default_factory=dict)
    """Of its last processes, by pid."""
    is_elsewhere: bool = False
    """On another host."""
    silent_since: float | None = None
    """When its supervisor spoke last, in Unix seconds; None: it speaks, or none ever did."""
    away: bool = False
    """It has vanished with its host, for all that is known: nothing of the above tells what is so now."""

    def with_news_of(self, known: ServerFacts) -> ServerFacts:
        """These, unless something newer was heard already that is not in the database yet."""
        facts = self
        if known.launch == self.launch and known.listing.read_at > self.listing.read_at:
            facts = self.with_listing(known.listing)
        if self.version >= known.version:
            return facts
        return replace(
            facts,
            version=known.version,
            status=known.status,
            detail=known.detail,
            url=known.url,
            pid=known.pid,
            endpoint=known.endpoint,
            adopted=known.adopted,
            api_key=self.key_of(adopted=known.adopted),
            run=self.run if self.pid == known.pid else known.run,
            ends={**known.ends, **self.ends},
        )

    def key_of(self, *, adopted: bool) -> str:
        """What its process asks for, by whether it was found or started."""
        return self.api_key if self.keys is None else self.keys[adopted]

    def with_listing(self, listing: Listing) -> ServerFacts:
        """Now that it has said what its models are."""
        names = dict.fromkeys([*(self.configured or (self.name,)), *listing.names])
        is_router = self.is_router or listing.is_router
        offered = listing.ids if is_router else self.offered
        return replace(self, listing=listing, models=tuple(names), offered=offered, is_router=is_router)

    def id_of(self, model: str) -> str:
        """The stable id of the model that is used for this name; empty: the router has no such model."""
        if not self.is_router:
            return next(iter(self.offered), self.name)
        entry = self.listing.entry(model)
        return model if model in self.offered else str(entry["id"]) if entry is not None else ""

    @property
    def ready(self) -> bool:
        return self.status is Status.READY and not self.away

    def spares(self, pid: int | None) -> bool:
        """This process may live on: also a supervisor that takes over what it finds says "starting" first."""
        if self.away:
            return False
        return self.ready or (self.status is Status.STARTING and self.pid in (None, pid))

    @property
    def asleep(self) -> bool:
        """Asking starts it."""
        return self.wakes and not self.wanted

    @property
    def hopeless(self) -> bool:
        """Waiting for it would not help."""
        if self.status is Status.ERROR:
            return True
        return not self.wanted and not self.wakes and not self.ready

    def needs_a_person(self, now: float) -> bool:
        """It stays hopeless until somebody has mended or started it; `now` in Unix seconds.

        While it stops, a start may follow.
        """
        retries = self.retry_at is not None and self.retry_at > now
        return self.hopeless and not retries and self.status is not Status.STOPPING

    def is_hopeless_for(self, *, wakes: bool) -> bool:
        """`wakes`: a server that sleeps is started for the request."""
        return self.hopeless or (self.asleep and not wakes and not self.ready)

    @property
    def why_hopeless(self) -> str:
        if self.asleep:
            return "It sleeps, and this request does not wake it: a question to its model does."
        if self.status in (Status.STARTING, Status.CRASHED):
            return "It was stopped."  # what its supervisor has said last is of the time before
        return self.detail or "It does not run."
