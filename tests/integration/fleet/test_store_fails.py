"""`OrmStore` while the database is locked, fails or hangs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.db import DatabaseError, connection

from supervisor_app.common.storage import StoreError
from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.lease import Lease
from supervisor_app.fleet.store import OrmStore
from supervisor_app.roles.store_hooks import STORE_HOOKS
from tests.integration.building import change, db, eventually, make_server
from tests.integration.fleet.locking import locked
from tests.integration.fleet.storing import opened

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def store():
    async with opened() as store:
        yield store


@pytest.fixture
def locked_database(settings):
    """Let another process hold the write lock of the SQLite file, for which nobody waits for long."""
    with locked():
        yield


async def test_a_locked_database_is_a_store_error(locked_database, store):
    with pytest.raises(StoreError, match="The database failed: database is locked"):
        await store.save(change())
    with pytest.raises(StoreError, match="locked"):
        await store.heartbeat(["default"])


async def test_the_wanted_servers_can_be_read_while_the_database_is_locked(store, request):
    await db(make_server)
    request.getfixturevalue("locked_database")
    assert [config.name for config in await store.configs()] == ["default"]
    assert (await store.remember("default")).version == 0


async def test_reading_that_fails_is_a_store_error(store):
    def fail(*args):
        raise DatabaseError("gone\n\tIs the server running?")

    await store.reader.call(lambda: connection.execute_wrappers.append(fail))
    with pytest.raises(StoreError, match=r"^The database failed: gone$"):
        await store.configs()
    with pytest.raises(StoreError, match="gone"):
        await store.remember("default")


async def test_a_connection_that_broke_is_replaced_by_the_next_call(store):
    await store.configs()
    await store.reader.call(lambda: connection.connection.close())  # behind Django's back
    with pytest.raises(StoreError):
        await store.configs()
    assert await store.configs() == []


async def test_a_bug_is_raised_as_it_is_and_the_next_call_is_done():
    def command():
        raise ZeroDivisionError

    store = OrmStore(node="local", overlay=Overlay, command=command, lease=Lease("local"), hooks=STORE_HOOKS)
    with pytest.raises(ZeroDivisionError):
        await store.configs()
    assert (await store.remember("nobody")).version == 0
    store.close()


async def test_a_call_that_was_given_up_before_its_turn_is_not_done(store):
    waiting, go_on, done = threading.Event(), threading.Event(), []

    def wait():
        waiting.set()
        go_on.wait(5)

    first = asyncio.create_task(store.reader.call(wait))
    await eventually(waiting.is_set)
    second = asyncio.create_task(store.reader.call(lambda: done.append(2)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    go_on.set()
    await first
    await store.configs()
    assert done == []


def test_a_database_that_hangs_does_not_keep_the_process_from_ending():
    code = (
        "import asyncio, time, django; django.setup()\n"
        "from supervisor_app.fleet.conf import Overlay\n"
        "from supervisor_app.fleet.lease import Lease; from supervisor_app.fleet.store import OrmStore\n"
        "wait = lambda: time.sleep(60)\n"
        "from supervisor_app.roles.store_hooks import STORE_HOOKS\n"
        "lease = Lease('local')\n"
        "store = OrmStore(node='local', overlay=Overlay, command=wait, lease=lease, hooks=STORE_HOOKS)\n"
        "try: asyncio.run(asyncio.wait_for(store.configs(), 0.1))\n"
        "except TimeoutError: store.close()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=20)
