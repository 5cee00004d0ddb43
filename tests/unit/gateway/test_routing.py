"""Which server a request goes to: the soonest, the idlest, or where its conversation was."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.access.keys import KeyPolicy
from supervisor_app.gateway.llama.hints import AMBIGUOUS, NO_HINTS, Hints
from supervisor_app.gateway.llama.listing import Listing
from supervisor_app.gateway.servers.backend import rank
from supervisor_app.gateway.servers.facts import ServerFacts
from supervisor_app.gateway.servers.routing import (
    FULL,
    MAX_CONVERSATIONS,
    Router,
    known_as,
    may_use,
    offers,
    serves,
)


@dataclass
class Server:
    facts: ServerFacts
    load: float = 0.0


def server(name, status=Status.READY, load=0.0, **fields):
    return Server(ServerFacts(name=name, status=status, **fields), load)


def chosen(candidates, conversation=b"", router=None):
    return (router or Router()).choose(candidates, conversation).facts.name


def test_a_server_is_asked_for_by_its_name_an_alias_or_a_model():
    facts = ServerFacts(name="default", models=("qwen3", "alias"))
    assert all(serves(facts, name) for name in ("default", "qwen3", "alias"))
    assert not any(serves(facts, name) for name in ("", "DEFAULT", "qwen", "qwen3 "))


def test_models_are_listed_once_in_order_with_the_servers_that_have_them():
    servers = [
        ServerFacts(name="c"),
        ServerFacts(name="b", offered=("qwen3",), models=("qwen3",), status=Status.CRASHED),
        ServerFacts(name="a", offered=("gemma", "qwen3"), is_router=True, status=Status.READY),
        ServerFacts(name="silent", is_router=True),
        # It has an alias of its own, and goes by the same file.
        ServerFacts(name="d", offered=("chat",), models=("chat", "qwen3"), status=Status.ERROR),
    ]
    found = {model: [facts.name for facts in having] for model, having in offers(servers).items()}
    assert found == {"c": ["c"], "chat": ["d"], "gemma": ["a"], "qwen3": ["a", "b", "d"]}
    assert list(found) == sorted(found)


def test_a_key_is_offered_what_it_may_use():
    servers = [
        ServerFacts(name="a", offered=("qwen3",), models=("a", "qwen3", "alias")),
        ServerFacts(name="b", offered=("qwen3",), models=("b", "qwen3")),
        ServerFacts(name="router", offered=("huge", "tiny"), models=("huge", "tiny"), is_router=True),
    ]

    def offered(*models):
        found = offers(servers, KeyPolicy(id=1, name="k", digest=b"", models=frozenset(models)))
        return {model: [facts.name for facts in having] for model, having in found.items()}

    assert offered("alias") == {"qwen3": ["a"]}
    assert offered("qwen3", "tiny") == {"qwen3": ["a", "b"], "tiny": ["router"]}
    assert offered("router") == {"huge": ["router"], "tiny": ["router"]}
    assert offered("gpt-4") == {}


def test_a_key_for_any_name_of_a_server_with_one_model_will_do():
    facts = ServerFacts(name="default", models=("qwen3", "alias"), offered=("alias", "qwen3"))
    for hints in (Hints("gpt-4"), Hints("gpt-4", doubt=AMBIGUOUS), NO_HINTS):
        assert known_as(facts, hints) == {"default", "qwen3", "alias"}


def test_a_key_must_allow_the_servers_model_whatever_the_client_calls_it():
    facts = ServerFacts(name="default", models=("qwen3",))
    policy = KeyPolicy(id=1, name="k", digest=b"", models=frozenset({"gpt-4"}))
    assert not may_use(policy, facts, Hints("gpt-4"))
    assert may_use(None, facts, Hints("gpt-4"))


@pytest.mark.parametrize("models", [("a", "b"), ("a",)])
def test_a_key_for_one_model_of_a_router_is_for_that_one(models):
    facts = ServerFacts(name="router", models=models, offered=models, is_router=True)
    assert known_as(facts, Hints("a")) == {"router", "a"}
    assert known_as(facts, NO_HINTS) == {"router"}


def test_a_model_of_a_router_goes_by_each_of_its_names():
    listing = Listing(data=({"id": "a", "aliases": ["first", "one"]}, {"id": "b"}), is_router=True)
    facts = ServerFacts(name="router").with_listing(listing)
    assert known_as(facts, Hints("one")) == {"router", "a", "first", "one"}
    assert known_as(facts, Hints("b")) == {"router", "b"}


def test_a_model_in_doubt_is_not_allowed_at_a_router():
    facts = ServerFacts(name="router", models=("a", "b"), offered=("a", "b"), is_router=True)
    assert known_as(facts, Hints("a", doubt=AMBIGUOUS)) == {"router"}


def test_the_sooner_a_server_may_answer_the_better():
    order = [Status.READY, Status.STARTING, Status.CRASHED, Status.STOPPING, Status.INITIAL, Status.ERROR]
    ranks = [rank(ServerFacts(name="a", status=status)) for status in order]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(order)


def test_a_server_that_nobody_wants_is_the_last_unless_asking_wakes_it():
    stopped = ServerFacts(name="a", status=Status.INITIAL, wanted=False)
    asleep = ServerFacts(name="b", status=Status.INITIAL, wanted=False, wakes=True)
    assert rank(asleep) < rank(stopped) == rank(ServerFacts(name="c", status=Status.ERROR))


@pytest.mark.parametrize("swapped", [False, True])
def test_readiness_goes_before_idleness(swapped):
    pair = [server("busy", load=5.0), server("idle", Status.STARTING)]
    assert chosen(pair[::-1] if swapped else pair) == "busy"


@pytest.mark.parametrize("swapped", [False, True])
def test_among_equals_the_idlest_is_asked(swapped):
    pair = [server("busy", load=0.5), server("idle", load=0.25)]
    assert chosen(pair[::-1] if swapped else pair) == "idle"


def test_a_conversation_stays_where_it_was():
    router = Router()
    here, there = server("here"), server("there", load=0.1)
    assert chosen([here, there], b"talk", router) == "here"
    here.load = 0.9
    assert chosen([here, there], b"talk", router) == "here"
    assert chosen([here, there], b"another", router) == "there"
    here.load, there.load = 1.9, FULL
    assert chosen([here, there], b"talk", router) == "here"


@pytest.mark.parametrize(("load", "other"), [(FULL, 0.0), (FULL, 0.9), (2.0, FULL), (3.5, 2.5)])
def test_a_conversation_moves_when_its_server_is_too_busy_and_stays_there(load, other):
    router = Router()
    here, there = server("here"), server("there")
    assert chosen([here, there], b"talk", router) == "here"
    here.load, there.load = load, other
    assert chosen([here, there], b"talk", router) == "there"
    here.load = there.load = 0.0
    assert chosen([here, there], b"talk", router) == "there"


def test_a_conversation_moves_when_its_server_is_down():
    router = Router()
    here, there = server("here"), server("there", load=0.9)
    assert chosen([here, there], b"talk", router) == "here"
    here.facts = ServerFacts(name="here", status=Status.CRASHED)
    assert chosen([here, there], b"talk", router) == "there"


def test_a_conversation_whose_server_is_gone_goes_to_another():
    router = Router()
    assert chosen([server("here")], b"talk", router) == "here"
    assert chosen([server("there")], b"talk", router) == "there"


def test_the_memory_of_conversations_is_bounded():
    router = Router()
    servers = [server("a", load=0.1), server("b")]
    for number in range(MAX_CONVERSATIONS):
        assert chosen(servers, b"%d" % number, router) == "b"
    servers[0].load = 0.0
    servers[1].load = 0.1
    assert chosen(servers, b"0", router) == "b"  # it stays, and was used last now
    assert chosen(servers, b"new", router) == "a"
    assert chosen(servers, b"0", router) == "b"
    assert chosen(servers, b"1", router) == "a"  # forgotten
