"""The other workers before the same server, as its gate and the record of its losses see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from supervisor_app.gateway.servers.turns import Turns
    from supervisor_app.gateway.servers.visitors import Insider


class Others(Protocol):
    """The gates of other processes before the same server."""

    @property
    def has_suspect(self) -> bool:
        """Does one of them have a request inside that has to be alone?"""

    @property
    def waiting(self) -> int:
        """Requests that wait at all of them."""

    @property
    def turns(self) -> Turns:
        """Turns of all workers together."""

    def has_room(self, inside: int, capacity: int, visitor: Insider, *, as_newcomer: bool = False) -> bool:
        """Might this request enter beside `inside` of ours? `as_newcomer`: it waits at another server now."""

    def ask_for_room(self, own: int) -> bool:
        """Ask a worker with an owner of more than `own` requests to give way: the queue of all is full."""

    def claim(self, inside: int, capacity: int, visitor: Insider) -> bool:
        """Let this request enter, as `has_room` says, and count it from now on."""

    def tell(
        self, inside: int, beside: int, waiting: int, *, solo: bool, turn: int, since: float, most: int
    ) -> None:
        """Publish the numbers of this gate.

        `solo`: the request inside has to be alone. `turn`, `since`: of the next request, and its arrival; 0:
        none waits that could go. `most`: queued requests of one owner.
        """


class Neighbours(Others, Protocol):
    """The other workers before the same server, as they share what they know of it."""

    @property
    def load(self) -> int:
        """Requests in flight or waiting at the other workers."""

    def was_alone(self, pid: int | None, in_flight: int, now: float) -> bool:
        """Note the loss of a connection to this process: was its request the only one of all workers?"""

    def noticed_all(self, in_flight: int) -> bool:
        """Was this worker the first to notice the last loss, and had no other worker requests there?"""

    def close(self) -> None:
        """Withdraw from the other workers: nothing is in flight or waits here any more."""
