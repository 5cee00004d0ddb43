"""Configuration of one server as the supervisor acts on it, and the wishes of people."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from supervisor_app.core.spec import Claim

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.spec import HealthPolicy, LaunchSpec, RestartPolicy


class Wish(StrEnum):
    """A wish of somebody for a server, in the words of buttons, API and command line."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Configuration of one server, resolved for this node."""

    name: str
    spec: LaunchSpec
    restart: RestartPolicy
    health: HealthPolicy
    desired_running: bool
    generation: int
    """Number that grows with each wish."""
    restart_generation: int = 0
    """The generation of the last restart asked for."""
    restart_seamless: bool = False
    """The last restart asked for is to be without a gap, or not at all."""
    at_once: bool = False
    """The last stop or restart asked for does not wait for requests in flight."""
    seamless: bool = False
    """Changes of the launch are to come into force without a gap, where that is possible."""
    spare_ports: tuple[int, ...] = ()
    """Ports that a second process may have; empty: people have named the port of the server."""
    idle_seconds: int | None = None
    """The server was stopped after so long without a request; None: not for that reason."""
    shared_names: tuple[str, ...] = ()
    """Names to which other servers, of any node, answer as well, sorted."""
    claim: Claim = field(default_factory=Claim)
    context_refusal: str = ""
    """Reason, as a sentence, for which its conversations are not kept although people want it."""
    explained: frozenset[int] = frozenset()
    """Pids of processes of this server that a request killed which is in quarantine now."""
    launch: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Fields that people set for the launch: a rollback brings them back."""
    secrets: str = field(default="", compare=False)
    """Digest of the secrets of the launch, which `launch` leaves out: it changes when one of them does."""

    @property
    def keeps_context(self) -> bool:
        """Are its conversations saved before a planned end?"""
        return bool(self.spec.slot_dir) and not self.context_refusal

    def wish_since(self, seen: int) -> Wish | None:
        """Return the wish since generation `seen`; None: there is none.

        A lower generation is that of a database restored from a backup: what it asks for counts.
        """
        if self.generation == seen:
            return None
        if not self.desired_running:
            return Wish.STOP
        return Wish.RESTART if self.restart_generation > seen else Wish.START
