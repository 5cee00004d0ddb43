"""Connections to a server that are being made: whoever cancels one never hears of it again."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.gateway.servers.upstream import Pool
from tests.integration.building import eventually
from tests.integration.gateway.scripts import Scripted, answers, deaf


def pool_of(port, host="localhost", connect_seconds=5.0):
    return Pool(host, port, idle_seconds=4, connect_seconds=connect_seconds)


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
async def test_whenever_it_is_cancelled_it_is_not_made_after_that(listening, number):
    heard = Heard(pool_of(listening.port))
    await turns(number)
    before = len(heard.made)
    heard.connecting.cancel()
    await asyncio.sleep(0.02)
    assert (len(heard.made), heard.failed) == (before, [])
    for connection in heard.made:
        connection.abort()


async def test_one_that_is_made_while_it_is_being_cancelled_is_ended(listening):
    heard = Heard(pool_of(listening.port))
    heard.connecting.cancel()
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(heard.connecting._connection, "127.0.0.1", listening.port)
    assert heard.made == []
    assert connection._transport is None


async def test_it_is_made_once_and_nothing_is_left_of_making_it(listening):
    pool = pool_of(listening.port)
    heard = Heard(pool)
    await eventually(lambda: heard.made and not pool.connecting)
    (connection,) = heard.made
    connection.abort()
    assert heard.failed == []


async def test_where_nobody_listens_it_fails_once_with_the_reason():
    scripted = Scripted(answers())
    await scripted.start()
    port = scripted.port
    await scripted.stop()
    heard = Heard(pool_of(port, "127.0.0.1"))
    await eventually(lambda: heard.failed)
    assert (heard.made, len(heard.failed)) == ([], 1)
    assert heard.failed[0].startswith(f"127.0.0.1:{port}: ")


async def test_one_that_takes_too_long_fails_once():
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
