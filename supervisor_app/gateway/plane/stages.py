"""The stages of one request, and which of them may follow which.

    HEAD ─▶ DOOR ─▶ ROUTE ─▶ GATE ◀─▶ ATTEMPT ─▶ COMMIT ─▶ OVER (from every stage)
     └▶ OWN                            ▲ ▼
                                      LOST

A request walks along the upper line, one step at a time. An attempt that reached no server goes back to the
gate. A request whose server died under it is LOST until its next turn at a gate: then the crash is judged,
and the request is sent again (a replay) or refused. From COMMIT on its client has part of an answer: nothing
but the end may follow. `FOLLOWS` is the whole truth; the model is the table of h11's `_state.py`.
"""

from __future__ import annotations

import logging
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)


class Stage(Enum):
    """Stage that a request has reached."""

    HEAD = auto()
    """The head has come; nobody has looked at it."""
    DOOR = auto()
    """The request is let in; its body comes."""
    OWN = auto()
    """The gateway is making the answer itself: no server is asked."""
    ROUTE = auto()
    """The body says where the request goes; a server is being looked for."""
    GATE = auto()
    """The request waits at a server for its turn."""
    ATTEMPT = auto()
    """The request is at a server, or on its way there; its client has no content of an answer."""
    LOST = auto()
    """The server was lost with the request, which waits for the verdict and for its next turn."""
    COMMIT = auto()
    """Content of a server's answer has gone to the client: the answer can be ended, not replaced."""
    OVER = auto()
    """The answer is whole, broken off or refused; what is left to do is the record."""

    __hash__ = object.__hash__  # members are singletons, and the hash of an Enum is a call into Python


FOLLOWS: Mapping[Stage, frozenset[Stage]] = {
    Stage.HEAD: frozenset({Stage.DOOR, Stage.OWN, Stage.OVER}),
    # A request that leaves the fast path has been sent: it goes from the door to its attempt.
    Stage.DOOR: frozenset({Stage.ROUTE, Stage.ATTEMPT, Stage.OVER}),
    Stage.OWN: frozenset({Stage.OVER}),
    Stage.ROUTE: frozenset({Stage.GATE, Stage.OVER}),
    Stage.GATE: frozenset({Stage.GATE, Stage.ATTEMPT, Stage.OVER}),
    Stage.ATTEMPT: frozenset({Stage.GATE, Stage.ATTEMPT, Stage.LOST, Stage.COMMIT, Stage.OVER}),
    Stage.LOST: frozenset({Stage.ATTEMPT, Stage.OVER}),
    Stage.COMMIT: frozenset({Stage.OVER}),
    Stage.OVER: frozenset(),
}
"""GATE after GATE: the request moves to another server. ATTEMPT after ATTEMPT: it is sent in another form."""


class IllegalStepError(AssertionError):
    """A request took a step that the table does not allow."""


class IllegalSteps:
    """Decide what a step outside the table costs: a test fails, a client in production notices nothing."""

    def __init__(self) -> None:
        self.are_raised = False
        """Set by the tests."""
        self._logged: set[tuple[Stage, Stage]] = set()

    def report(self, before: Stage, after: Stage) -> None:
        """Raises IllegalStepError in tests; elsewhere each kind of step is logged once."""
        if self.are_raised:
            raise IllegalStepError(f"{after.name} after {before.name}")
        if (before, after) not in self._logged:
            self._logged.add((before, after))
            log.error(
                "❌ [GATEWAY] A request went from %s to %s. This is a mistake in llamaproxy.",
                before.name,
                after.name,
            )


illegal_steps = IllegalSteps()


def step(before: Stage, after: Stage) -> Stage:
    """The stage after this step. A request that is over stays over, whatever a mistake wants of it."""
    if after in FOLLOWS[before]:
        return after
    illegal_steps.report(before, after)
    return before if before is Stage.OVER else after
