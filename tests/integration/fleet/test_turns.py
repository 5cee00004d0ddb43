"""Turns of servers that share an alias, in the database."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from supervisor_app.core.ports import TurnHolder
from supervisor_app.fleet import turns
from supervisor_app.fleet.lease import LEASE, NodeLease
from supervisor_app.fleet.models import LlamaServer, RestartTurn, ServerState
from tests.deadline import DEADLINE
from tests.integration.alerts.test_alerts_processes import postgres, shared  # noqa: F401
from tests.integration.fleet.storing import opened

ROOT = Path(__file__).parents[3]
ALIASES = ("chat", "small")
RACE = """
import sys, time, django
django.setup()
from supervisor_app.fleet import turns
name, rounds = sys.argv[1], int(sys.argv[2])
sys.stdin.readline()
for _ in range(rounds):
    while turns.acquire(name, {aliases}) is not None:
        time.sleep(0.02)
    print("+" + name, flush=True)
    print("-" + name, flush=True)
    turns.release(name)
"""


def prepared(age=timedelta()):
    """Three servers of two nodes, all with both aliases."""
    for port, (name, node) in enumerate((("a", "here"), ("b", "there"), ("c", "there")), 8200):
        LlamaServer.objects.create(name=name, node=node, port=port, model_path="m.gguf", aliases=ALIASES)
    for node in ("here", "there"):
        NodeLease.objects.create(node=node, holder="1 1 boot host", token=node, renewed_at=Now() - age)


@pytest.mark.django_db
def test_a_server_has_the_turns_of_all_its_aliases_and_the_next_gets_them_when_it_is_done():
    prepared()
    assert turns.acquire("a", ALIASES) is None
    assert turns.acquire("a", ALIASES) is None, "they are its own"
    assert turns.acquire("b", ("other", "small")) == TurnHolder(server="a", alias="small")
    assert set(RestartTurn.objects.values_list("alias", flat=True)) == set(ALIASES), "who waits has none"
    turns.release("a")
    assert turns.acquire("b", ALIASES) is None
    assert str(RestartTurn.objects.get(alias="chat")) == "chat: b"


@pytest.mark.django_db
def test_the_turn_of_a_server_without_a_supervisor_or_that_was_deleted_is_free():
    prepared()
    assert turns.acquire("a", ALIASES) is None
    NodeLease.objects.filter(node="here").update(renewed_at=Now() - LEASE - timedelta(seconds=1))
    assert turns.acquire("b", ALIASES) is None
    LlamaServer.objects.get(name="b").delete()
    assert turns.acquire("c", ALIASES) is None
    assert turns.acquire("gone", ALIASES) is None


@pytest.mark.django_db
@pytest.mark.parametrize(("status", "failed"), [("error", True), ("starting", False)])
def test_a_holder_that_failed_is_told_as_such(status, failed):
    prepared()
    turns.acquire("a", ALIASES)
    ServerState.objects.create(server=LlamaServer.objects.get(name="a"), status=status)
    assert turns.acquire("b", ALIASES) == TurnHolder(server="a", alias="chat", failed=failed)


@pytest.mark.django_db(transaction=True)
async def test_the_store_knows_which_names_others_answer_to_and_who_has_a_turn():
    from asgiref.sync import sync_to_async

    await sync_to_async(prepared)()
    await sync_to_async(LlamaServer.objects.filter(name="c").update)(aliases=[], args=["-a", "a"])
    async with opened("here") as store:
        (config,) = await store.configs()
        assert config.shared_names == ("a", "chat", "small")
        assert not (await store.remember("a")).holds_turn
        assert await store.acquire_turn("a", config.shared_names) is None
        assert (await store.remember("a")).holds_turn
        await store.release_turn("a")
        assert not (await store.remember("a")).holds_turn


def contested():
    """Release turns while another transaction has the first of them, and is about to lock the second."""
    prepared()
    a = LlamaServer.objects.get(name="a")
    for alias in reversed(ALIASES):  # as they lie on the disk
        RestartTurn.objects.create(alias=alias, holder=a, since=Now())
    releasing = Thread(target=turns.release, args=["a"])
    with transaction.atomic(), connection.cursor() as cursor:
        RestartTurn.objects.select_for_update().get(alias="chat")
        releasing.start()
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                break
        RestartTurn.objects.select_for_update(nowait=True).get(alias="small")
    releasing.join()
    assert not RestartTurn.objects.exists()
    LlamaServer.objects.all().delete()
    NodeLease.objects.all().delete()


@pytest.mark.parametrize("shared", ["postgres"], indirect=True)
def test_turns_are_released_in_the_order_in_which_they_are_acquired(shared):  # noqa: F811
    """PostgreSQL locks rows; SQLite the whole database."""
    code = "import django; django.setup(); from tests.integration.fleet import test_turns; test_turns.contested()"
    django = shared | {"DJANGO_SETTINGS_MODULE": "llamaproxy.settings"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=django, check=True, timeout=2 * DEADLINE)


def test_of_several_processes_one_at_a_time_has_the_turn(shared):  # noqa: F811
    """On SQLite and on PostgreSQL: what each says while it has the turn never mixes with another's."""
    setup = (
        "import django; django.setup(); from tests.integration.fleet.test_turns import prepared; prepared()"
    )
    django = shared | {"DJANGO_SETTINGS_MODULE": "llamaproxy.settings"}
    subprocess.run([sys.executable, "-c", setup], cwd=ROOT, env=django, check=True, timeout=DEADLINE)
    log = Path(shared["LLAMAPROXY_DATA_DIR"], "said")
    racers = []
    with log.open("a") as said:
        for name in "abc":
            code = RACE.format(aliases=ALIASES if name != "b" else ALIASES[::-1])
            command = [sys.executable, "-c", code, name, "8"]
            racers.append(
                subprocess.Popen(command, cwd=ROOT, env=django, stdin=subprocess.PIPE, stdout=said, text=True)
            )
        for racer in racers:
            racer.stdin.close()
        assert [racer.wait(DEADLINE) for racer in racers] == [0, 0, 0]
    lines = log.read_text().split()
    assert Counter(lines) == {f"{sign}{name}": 8 for sign in "+-" for name in "abc"}
    pairs = zip(lines[::2], lines[1::2], strict=True)
    assert all(begun[1:] == ended[1:] and begun[0] + ended[0] == "+-" for begun, ended in pairs)
