"""Connections to a server that are being made: a cancelled one reports nothing any more."""

from __future__ import annotations

import asyncio
import socket

import pytest

from supervisor_app.gateway.servers.pool import Pool
from supervisor_app.gateway.servers.upstream import Receiver
from tests.integration.building import eventually
from tests.integration.gateway.scripts import Scripted, answers, deaf


class SeenPool(Pool):
    """A pool that sees the transports of its connections, and which of them are over."""

    def __init__(self, *args, **kind):
        super().__init__(*args, **kind)
        self.transports, self.over = [], []
        self.on_transport = lambda: None

    def stranger_behind(self, transport):
        self.transports.append(transport)
        self.on_transport()
        return super().stranger_behind(transport)

    def forget(self, connection):
        self.over.append(connection)
        super().forget(connection)


def pool_of(port, host="localhost", connect_seconds=5.0, **kind):
    return SeenPool(host, port, idle_seconds=4, connect_seconds=connect_seconds, **kind)


class Heard:
    """What became of it."""

    def __init__(self, pool):
        self.made, self.failed = [], []
        self.connecting = pool.connect(self.made.append, self.failed.append)


@pytest.fixture
async def listening():
    """One that answers."""
    scripted = Scripted(answers())
    await scripted.start()
    yield scripted
    await scripted.stop()


async def turns(number):
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("number", range(8))
async def test_a_cancelled_connection_is_not_made_whenever_that_happens(listening, number):
    heard = Heard(pool_of(listening.port))
    await turns(number)
    before = len(heard.made)
    heard.connecting.cancel()
    await asyncio.sleep(0.02)
    assert (len(heard.made), heard.failed) == (before, [])
    for connection in heard.made:
        connection.abort()


async def test_a_connection_that_is_made_while_it_is_being_cancelled_is_ended(listening):
    pool = pool_of(listening.port)
    heard = Heard(pool)
    pool.on_transport = heard.connecting.cancel
    await eventually(lambda: pool.over and not pool.connecting)
    assert (heard.made, heard.failed) == ([], [])
    assert pool.transports[0].is_closing()


async def test_a_connection_is_made_once_and_nothing_is_left_of_making_it(listening):
    pool = pool_of(listening.port)
    heard = Heard(pool)
    await eventually(lambda: heard.made and not pool.connecting)
    (connection,) = heard.made
    connection.abort()
    assert heard.failed == []


async def test_a_connection_to_nobody_fails_once_with_the_reason():
    scripted = Scripted(answers())
    await scripted.start()
    port = scripted.port
    await scripted.stop()
    heard = Heard(pool_of(port, "127.0.0.1"))
    await eventually(lambda: heard.failed)
    assert (heard.made, len(heard.failed)) == ([], 1)
    assert heard.failed[0].startswith(f"127.0.0.1:{port}: ")


async def test_a_connection_that_takes_too_long_fails_once():
    with deaf() as url:
        pool = pool_of(int(url.rpartition(":")[2]), "127.0.0.1", connect_seconds=0.05)
        heard = Heard(pool)
        await eventually(lambda: heard.failed and not pool.connecting)
        await asyncio.sleep(0.05)
    assert heard.made == []
    assert heard.failed == [f"{pool.authority.decode()} took no connection in 0.05 s"]


async def test_a_name_that_cannot_even_be_looked_up_fails_as_well():
    heard = Heard(pool_of(80, "a..b"))
    await eventually(lambda: heard.failed)
    assert heard.failed[0].startswith("a..b:80: ")


class Heedless(Receiver):
    """Nobody answers."""

    def on_head(self, head, length):
        return None

    def on_content(self, content):
        return None

    def on_end(self):
        return None

    def on_lost(self, reason):
        return None

    def on_writable(self, writable):
        return None


async def made(listening, **kind):
    """Return a connection, and a function that reads an option of its socket."""
    pool = pool_of(listening.port, **kind)
    heard = Heard(pool)
    await eventually(lambda: heard.made)
    (connection,), (transport,) = heard.made, pool.transports

    def option(name, level=socket.IPPROTO_TCP):
        return transport.get_extra_info("socket").getsockopt(level, getattr(socket, name))

    return connection, option


async def test_the_kernel_asks_whether_another_host_is_there(listening):
    connection, option = await made(listening, is_elsewhere=True)
    assert option("SO_KEEPALIVE", socket.SOL_SOCKET)
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
    assert [option(name) for name in names] == [5, 2, 3]
    connection.abort()


@pytest.mark.parametrize(
    ("body", "whole", "milliseconds"),
    [(b"hi", True, 10_000), (b"hi", False, 0), (b"x" * 40_000, True, 0)],
    ids=["short", "more to come", "long"],
)
async def test_a_time_limit_is_set_where_only_a_dead_host_exceeds_it(listening, body, whole, milliseconds):
    """A server may leave a long body unread for as long as it likes."""
    connection, option = await made(listening, is_elsewhere=True)
    connection.ask(Heedless(), b"POST / HTTP/1.1\r\n", body, whole=whole)
    assert option("TCP_USER_TIMEOUT") == milliseconds
    connection.abort()


async def test_nothing_of_that_is_set_for_a_server_of_this_host(listening):
    connection, option = await made(listening)
    connection.ask(Heedless(), b"POST / HTTP/1.1\r\n", b"hi")
    assert not option("SO_KEEPALIVE", socket.SOL_SOCKET)
    assert option("TCP_USER_TIMEOUT") == 0
    connection.abort()


async def test_a_connection_to_another_host_is_waited_for_a_second_at_most():
    seconds = [pool_of(80, connect_seconds=most, is_elsewhere=True).connect_seconds for most in (5.0, 0.5)]
    assert seconds == [1.0, 0.5]
    assert pool_of(80).connect_seconds == 5.0
