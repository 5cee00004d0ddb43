"""The choice of a server for a request. Pure, but for what it reads of each server."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol, TypeVar

from supervisor_app.gateway.llama.hints import Hints
from supervisor_app.gateway.llama.listing import names_of
from supervisor_app.gateway.servers.backend import rank

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor_app.gateway.access.keys import KeyPolicy
    from supervisor_app.gateway.servers.facts import ServerFacts

FULL = 1.0
"""Load of a server at which as many requests are in flight or wait as it can do at once."""
MAX_CONVERSATIONS = 10_000


class Candidate(Protocol):
    facts: ServerFacts

    @property
    def load(self) -> float: ...


def serves(facts: ServerFacts, model: str) -> bool:
    """Tell whether a server serves a model, named by its own name, an alias, a model's id, or a preset."""
    return model == facts.name or model in facts.models or model in facts.presets


def known_as(facts: ServerFacts, hints: Hints) -> set[str]:
    """The names by which a key may be allowed to use what is asked of this server.

    Of a router that is the one model that it will certainly use; any other serves its one whatever it is
    asked for, so there the client's word counts for nothing, unless it is that of a preset.
    """
    if hints.model is not None and hints.model in facts.presets:
        return {facts.name, *facts.models, hints.model}
    if not facts.is_router:
        return {facts.name, *facts.models}
    if hints.doubt or not hints.model:
        return {facts.name}
    entry = facts.listing.entry(hints.model)
    return {facts.name, *(names_of(entry) if entry is not None else (hints.model,))}


def may_use(policy: KeyPolicy | None, facts: ServerFacts, hints: Hints) -> bool:
    """Does this key allow what is asked of this server?"""
    return policy is None or not policy.models or not policy.models.isdisjoint(known_as(facts, hints))


def alike(one: ServerFacts, other: ServerFacts) -> bool:
    """Tell whether there is a name by which either server may be asked for."""
    return not {one.name, *one.models}.isdisjoint({other.name, *other.models})


def offers(servers: Iterable[ServerFacts], policy: KeyPolicy | None = None) -> dict[str, list[ServerFacts]]:
    """List the models and presets that a key may ask for, in order of their ids, each with its servers.

    The server that can be asked soonest comes first.
    """
    known = list(servers)
    ids = sorted({model for facts in known for model in (*_models(facts), *facts.presets)})
    found = {}
    for model in ids:
        having = [facts for facts in known if _offers(facts, model) and may_use(policy, facts, Hints(model))]
        if having:
            found[model] = sorted(having, key=lambda facts: (rank(facts), facts.name))
    return found


def _models(facts: ServerFacts) -> tuple[str, ...]:
    """List its models. A router that has yet to say which models it has is none of them."""
    return facts.offered or (() if facts.is_router else (facts.name,))


def _offers(facts: ServerFacts, model: str) -> bool:
    return model in facts.offered or model in facts.presets or (not facts.is_router and serves(facts, model))


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
