"""Which server a request goes to. Pure, but for what it reads of each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from supervisor_app.gateway.llama.hints import Hints
from supervisor_app.gateway.servers.backend import rank
from supervisor_app.gateway.servers.facts import ServerFacts

FULL = 1.0
"""Where as many are in flight or wait as it can do at once."""
MAX_CONVERSATIONS = 10_000


class Candidate(Protocol):
    facts: ServerFacts

    @property
    def load(self) -> float: ...


def serves(facts: ServerFacts, model: str) -> bool:
    """By its own name, an alias, or the id of a model."""
    return model == facts.name or model in facts.models


def known_as(facts: ServerFacts, hints: Hints) -> set[str]:
    """The names by which a key may be allowed to use what is asked of this server.

    Of a router that is the one model that it will certainly use; any other serves its one under each name.
    """
    asked = {hints.model} if hints.model else set()
    if facts.is_router:
        return {facts.name} if hints.doubt else {facts.name, *asked}
    return {facts.name, *facts.models, *asked}


def alike(one: ServerFacts, other: ServerFacts) -> bool:
    """There is a name by which either may be asked for."""
    return not {one.name, *one.models}.isdisjoint({other.name, *other.models})


def names(servers: Iterable[ServerFacts]) -> list[str]:
    """What may be asked for."""
    found: dict[str, None] = {}
    for facts in servers:
        found.update(dict.fromkeys(facts.offered or (facts.name,)))
    return list(found)


C = TypeVar("C", bound=Candidate)


class Router:
    """Remembers where a conversation went last, so that its cache is used again."""

    def __init__(self) -> None:
        self._last: OrderedDict[bytes, str] = OrderedDict()

    def choose(self, candidates: Sequence[C], conversation: bytes = b"") -> C:
        """The one with the least to do among those that can be asked soonest; there is at least one."""
        best = min(candidates, key=lambda candidate: (rank(candidate.facts), candidate.load))
        if not conversation:
            return best
        kept = self._kept(candidates, conversation, best)
        self._last[conversation] = kept.facts.name
        self._last.move_to_end(conversation)
        if len(self._last) > MAX_CONVERSATIONS:
            self._last.popitem(last=False)
        return kept

    def _kept(self, candidates: Sequence[C], conversation: bytes, best: C) -> C:
        last = self._last.get(conversation)
        for candidate in candidates:
            if candidate.facts.name == last:
                return candidate if _may_stay(candidate, best) else best
        return best


def _may_stay(here: Candidate, best: Candidate) -> bool:
    """Is its cache worth more than what the idlest can do?"""
    if rank(here.facts) != rank(best.facts):
        return False
    return here.load < FULL or (best.load >= FULL and here.load < best.load + FULL)
