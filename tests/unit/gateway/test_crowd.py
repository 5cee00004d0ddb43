"""Whose connection goes when they run out, and how many one client may have."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.access.crowd import NOBODY, Crowd, address_of, owner_of

LIMIT = 16


class Connection:
    def __init__(self, address="", *, is_idle=True):
        self.address = address
        self.is_idle = is_idle


@pytest.fixture
def crowd():
    return Crowd()


def joins(crowd, number=1, address="", *, owner=None, is_idle=True):
    clients = [Connection(address, is_idle=is_idle) for _ in range(number)]
    for client in clients:
        assert crowd.join(client, LIMIT) == (True, None)
        if owner is not None:
            assert crowd.trust(client, owner, LIMIT)
    return clients


def test_beyond_the_limit_a_connection_takes_the_place_of_the_oldest_idle_stranger(crowd):
    first, second, *_ = joins(crowd, LIMIT)
    assert crowd.join(Connection(), LIMIT) == (True, first)
    assert crowd.join(Connection(), LIMIT) == (True, second)


def test_strangers_go_before_those_that_were_let_in(crowd):
    joins(crowd, LIMIT - 1, owner=NOBODY)
    (stranger,) = joins(crowd)
    assert crowd.join(Connection(), LIMIT) == (True, stranger)


def test_without_strangers_the_oldest_idle_one_of_the_largest_owner_goes(crowd):
    joins(crowd, 5, owner=1)
    largest = joins(crowd, 11, owner=2)
    largest[0].is_idle = False
    assert crowd.join(Connection(), LIMIT) == (True, largest[1])


def test_when_nobody_is_idle_nobody_else_may_come(crowd):
    busy = joins(crowd, LIMIT, owner=NOBODY, is_idle=False)
    assert crowd.join(Connection(), LIMIT) == (False, None)
    crowd.leave(busy[3])
    assert crowd.join(Connection(), LIMIT) == (True, None)


def test_strangers_of_the_address_with_most_connections_go_first(crowd):
    joins(crowd, 1, "192.0.2.1")
    crowded = joins(crowd, 2, "192.0.2.2")
    joins(crowd, LIMIT - 3, owner=NOBODY)
    assert crowd.join(Connection(), LIMIT) == (True, crowded[0])


def test_an_address_has_only_so_many_strangers(crowd):
    first, *_ = joins(crowd, LIMIT // 8, "192.0.2.1")
    assert crowd.join(Connection("192.0.2.1"), LIMIT) == (False, None)
    crowd.trust(first, 1, LIMIT)
    assert crowd.join(Connection("192.0.2.1"), LIMIT) == (True, None)


def test_an_owner_has_only_so_many_connections_but_this_machine_may_have_all(crowd):
    joins(crowd, LIMIT * 3 // 4, owner=1)
    (more,) = joins(crowd)
    assert not crowd.trust(more, 1, LIMIT)
    assert crowd.trust(more, 2, LIMIT)
    assert crowd.trust(more, 1, LIMIT)  # it is known already
    joins(crowd, LIMIT // 4 - 1, owner=NOBODY)


def test_a_connection_that_has_left_counts_no_more(crowd):
    for client in [*joins(crowd, 4), *joins(crowd, 2, "192.0.2.1"), *joins(crowd, 4, owner=1)][:6]:
        crowd.leave(client)
        crowd.leave(client)
    joins(crowd, LIMIT - 4)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("127.0.0.1", 1), ""),
        (("::1", 1, 0, 0), ""),
        (("::ffff:127.0.0.1", 1, 0, 0), ""),
        (("192.0.2.1", 1), "192.0.2.1"),
        (("::ffff:192.0.2.1", 1, 0, 0), "192.0.2.1"),
        (("2001:db8:1:2:3::4", 1, 0, 0), "2001:0db8:0001:0002"),
        (("fe80::1%eth0", 1, 0, 2), "fe80:0000:0000:0000"),
        ("/run/socket", ""),
        ((), ""),
        (("nowhere", 1), ""),
        (None, ""),
    ],
)
def test_an_address_is_a_machine_or_a_network(peer, address):
    assert address_of(peer) == address


def test_an_owner_is_a_key_or_an_address():
    owners = [
        owner_of(7, "192.0.2.1"),
        owner_of(None, "192.0.2.1"),
        owner_of(None, "192.0.2.2"),
        owner_of(None, ""),
    ]
    assert len({*owners}) == 4
    assert (owners[0], owners[3]) == (7, NOBODY)
    assert owners[1] < 0
