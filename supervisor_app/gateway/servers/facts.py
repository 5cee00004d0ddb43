"""Facts about servers, as the gateway is told. Values only: `survey` reads them, `link` hears them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING

from supervisor_app.core.settings import BY_FIELD
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.gateway.llama.listing import Listing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.sightings import Endpoint
    from supervisor_app.gateway.llama.presets import Preset

FROM_OUTSIDE = (SIGKILL, SIGTERM)
NEWS_SECONDS = 5.0
"""Time in which a row must confirm what was heard: most take milliseconds, a locked database some seconds."""
BY_OUR_HAND = (FailureKind.HUNG, FailureKind.NEVER_READY)
"""Failures for which a supervisor ends a server: a long prompt may look like a hang, and is no poison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """End of a run."""

    blameless: bool
    """A wish ended it, its supervisor for its silence, or SIGKILL or SIGTERM from outside: no request is
    suspected."""
    sentence: str = ""


def end_of(*, kind: str, signal: int | None, adopted: bool, title: str) -> End:
    """Judge the end of a run. `kind`: of its failure; empty when there was none."""
    from_outside = kind == FailureKind.KILLED_BY_SIGNAL and signal in FROM_OUTSIDE
    untold = kind == FailureKind.UNKNOWN and adopted
    return End(blameless=not kind or from_outside or untold or kind in BY_OUR_HAND, sentence=title)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Load of the process that serves: a wait for room in memory, then the start until it was ready."""

    ready_at: float
    """Unix seconds."""
    room_seconds: float
    load_seconds: float

    def within(self, since: float, until: float) -> tuple[float, float]:
        """Return the seconds of each part, room and load, that lie in a wait. Unix seconds."""
        given_at = self.ready_at - self.load_seconds
        asked_at = given_at - self.room_seconds
        room = min(until, given_at) - max(since, asked_at)
        load = min(until, self.ready_at) - max(since, given_at)
        return max(0.0, room), max(0.0, load)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """A server as its supervisor published it, with what people have configured for the gateway."""

    name: str
    node: str = ""
    """The host whose supervisor runs it."""
    version: int = 0
    heard_at: float = -inf
    """Monotonic seconds at which a supervisor's news brought this version; -inf: the database did."""
    status: Status = Status.INITIAL
    detail: str = ""
    """The supervisor's sentence."""
    url: str = ""
    pid: int | None = None
    endpoint: Endpoint | None = None
    """Address at which its supervisor has proved that the server listens."""
    proved: Endpoint | None = None
    """The last such address that a row has named; a new process that listens there is where it should be."""
    run: int | None = None
    """Number of the run that is open, which has its own page; None while there is none."""
    wanted: bool = True
    """The server is meant to run."""
    wakes: bool = False
    """The server was stopped as idle: a request starts it."""
    draining: bool = False
    """The server takes no new requests: it ends once it has finished those in flight."""
    unloaded: bool = False
    """The server made room for another, or found none: a request has it loaded."""
    failure: str = ""
    """Kind of the failure that it is down for; empty: none."""
    port_is_chosen: bool = False
    """Nobody named its port: where a stranger listens there, it gets another one within a second."""
    models: tuple[str, ...] = ()
    """Models that it serves, by every name: a client may use any."""
    offered: tuple[str, ...] = ()
    """Models in lists: one name for each, which stays the same whatever the server does."""
    configured: tuple[str, ...] = ()
    """Names that people gave its model, whatever the server says itself."""
    foreign: frozenset[str] = frozenset()
    """Names of its model that stand for servers that do other work with it."""
    presets: Mapping[str, Preset] = field(default_factory=dict)
    """Names under which requests are changed on their way to it."""
    launch: str = ""
    """Fingerprint of the launch: what a server said before means nothing under another one."""
    listing: Listing = field(default_factory=Listing)
    """The last list of its models, also while the server is down."""
    is_router: bool = False
    """A router uses the model that a request names; any other server has one model for all."""
    caches_prompts: bool = True
    """The server answers from its cache, unless a request or its flags say otherwise."""
    textless: str = ""
    """The flag that keeps it from making text, as it is written; empty: it may make some."""
    is_verbose: bool = False
    """The server was started with `--verbose`: its answers also quote the request."""
    api_key: str = field(default="", repr=False)
    """API key that the running process asks for."""
    adopted: bool = False
    capacity: int = 0
    """Requests at once as configured; 0: as many as it has slots."""
    max_queue: int = BY_FIELD["max_queue"].default
    hold_seconds: float = BY_FIELD["hold_seconds"].default
    start_seconds: float | None = None
    """Duration of the last starts; None: the server never got ready."""
    retry_at: float | None = None
    """Unix seconds at which the supervisor tries again."""
    load: Load | None = None
    """Load of the process that is ready; None: none is, or its load was not measured."""
    ends: Mapping[int, End] = field(default_factory=dict)
    """Ends of the last processes, by pid."""
    is_elsewhere: bool = False
    """The server is on another host."""
    silent_since: float | None = None
    """Unix seconds at which the supervisor spoke last; None: it speaks, or none ever did."""
    away: bool = False
    """The server has vanished with its host, for all that is known: the other facts are old."""

    def with_news_of(self, known: ServerFacts, now: float) -> ServerFacts:
        """Merge with facts that were heard already and are not in the database yet.

        Where to send requests, and with which key, is known by the database alone, now or from before:
        anybody who reaches the channel layer can say anything. And what no row has confirmed after
        `NEWS_SECONDS` was no news. `now`: monotonic seconds.
        """
        proved = self.endpoint or known.proved
        facts = self if proved == self.proved else replace(self, proved=proved)
        if known.launch == self.launch and known.listing.read_at > self.listing.read_at:
            facts = facts.with_listing(known.listing)
        if self.version >= known.version or now >= known.heard_at + NEWS_SECONDS:
            return facts
        return replace(
            facts,
            version=known.version,
            status=known.status,
            heard_at=known.heard_at,
            detail=known.detail,
            draining=known.draining,
            unloaded=known.unloaded,
            failure=known.failure,
            pid=known.pid,
            endpoint=self.endpoint or (known.endpoint if known.ready else None),
            run=self.run if self.pid == known.pid else known.run,
            load=known.load,
            ends={**known.ends, **self.ends},
        )

    def with_listing(self, listing: Listing) -> ServerFacts:
        """Return the facts with this list of models."""
        said = (*(self.configured or (self.name,)), *listing.names)
        names = dict.fromkeys(name for name in said if name not in self.foreign)
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
        """May this process run on? Also a supervisor that adopts what it finds says "starting" first."""
        if self.away:
            return False
        return self.ready or (self.comes_or_goes and self.pid in (None, pid))

    @property
    def comes_or_goes(self) -> bool:
        """May a process that served go on for now? Its supervisor comes back, or has it drain."""
        return self.status is Status.STARTING or (self.status is Status.STOPPING and self.draining)

    @property
    def asleep(self) -> bool:
        """Does a request start the server?"""
        return (self.wakes and not self.wanted) or (self.unloaded and self.wanted)

    @property
    def hopeless(self) -> bool:
        """Is it no use to wait for the server?"""
        if self.status is Status.ERROR:
            return not (self.port_is_chosen and self.failure == FailureKind.PORT_TAKEN)
        return not self.wanted and not self.wakes and not self.ready

    def needs_a_person(self, now: float) -> bool:
        """Does the server stay hopeless until somebody mends or starts it? `now`: Unix seconds.

        While it stops, a start may follow.
        """
        retries = self.retry_at is not None and self.retry_at > now
        return self.hopeless and not retries and self.status is not Status.STOPPING

    def is_hopeless_for(self, *, wakes: bool) -> bool:
        """Is it no use for a request to wait? `wakes`: the request starts a server that sleeps."""
        return self.hopeless or (self.asleep and not wakes and not self.ready)

    @property
    def does_not_fit(self) -> bool:
        """Is the server down because there never is room for it?"""
        return self.status is Status.ERROR and self.failure == FailureKind.DOES_NOT_FIT

    @property
    def why_hopeless(self) -> str:
        if self.asleep:
            return "It sleeps, and this request does not wake it: a question to its model does."
        if self.status in (Status.STARTING, Status.CRASHED) or self.draining:
            return "It was stopped."  # what its supervisor has said last is of the time before
        return self.detail or "It does not run."
