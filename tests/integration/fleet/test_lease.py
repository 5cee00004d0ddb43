"""Who supervises a node, when several hosts share a database."""

from __future__ import annotations

import logging
import os
import subprocess
from datetime import timedelta
from functools import partial
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.db.models.functions import Now

from supervisor_app.core.machine.identity import identity_of, machine
from supervisor_app.core.ports import NodeTakenError
from supervisor_app.fleet import lease as lease_module
from supervisor_app.fleet.lease import LEASE, Lease, NodeLease

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db

ELSEWHERE = "77 5 another-boot/4026531836 gpu-2"
TOO_OLD = LEASE + timedelta(seconds=1)


def held_by(holder: str, *, age: timedelta = timedelta()) -> None:
    """Node `local`, by a supervisor that renewed so long ago."""
    NodeLease.objects.create(node="local", holder=holder, token="theirs", renewed_at=Now() - age)


def ours() -> bool:
    return NodeLease.objects.get(node="local").by.pid == os.getpid()


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """Let something happen in each pause between two looks; without any there is no pause."""
    script: list[Callable[[], object]] = []
    monkeypatch.setattr(lease_module.time, "sleep", lambda seconds: script.pop(0)())
    return script


def aged(by: timedelta) -> None:
    NodeLease.objects.update(renewed_at=Now() - by)


# --- Taking it -----------------------------------------------------------------------------------------


def test_a_node_that_nobody_holds_is_taken():
    Lease("local").take()
    assert ours()
    assert str(NodeLease.objects.get()).startswith(f"local: pid {os.getpid()} on ")


def test_each_node_has_its_own():
    Lease("local").take()
    Lease("gpu-7").take()
    assert NodeLease.objects.count() == 2


def test_a_lease_of_a_living_process_of_this_machine_is_refused_at_once():
    Lease("local").take()
    with pytest.raises(NodeTakenError, match=f"pid {os.getpid()} on "):
        Lease("local").take()


def test_a_lease_whose_holder_on_this_machine_was_killed_is_taken_at_once():
    child = subprocess.Popen(["sleep", "60"])
    held_by(f"{child.pid} {identity_of(child.pid).start} {machine()} here")
    child.kill()
    child.wait()
    Lease("local").take()
    assert ours()


def test_a_lease_whose_holders_pid_is_another_process_by_now_is_taken_at_once():
    held_by(f"{os.getppid()} 1 {machine()} here")
    Lease("local").take()
    assert ours()


@pytest.mark.parametrize("age", [TOO_OLD, -TOO_OLD], ids=["long ago", "the database's clock was set back"])
def test_a_lease_that_was_not_renewed_in_time_is_taken_at_once(age):
    held_by(ELSEWHERE, age=age)
    Lease("local").take()
    assert ours()


def test_a_holder_elsewhere_that_renews_keeps_the_lease(pauses, caplog):
    caplog.set_level(logging.INFO, "supervisor_app.fleet.lease")
    held_by(ELSEWHERE, age=timedelta(seconds=4))
    pauses += [lambda: None, lambda: aged(timedelta())]
    with pytest.raises(NodeTakenError, match="pid 77 on gpu-2"):
        Lease("local").take()
    assert not ours()
    assert caplog.messages == ["⏳ [NODE] Waiting whether pid 77 on gpu-2, which has 'local', is alive"]


def test_a_holder_elsewhere_that_died_just_now_is_followed_after_a_long_silence(pauses, monkeypatch):
    held_by(ELSEWHERE, age=timedelta(seconds=4))
    time_passes = partial(monkeypatch.setattr, lease_module, "LEASE", timedelta(seconds=3))
    pauses += [lambda: None, time_passes]
    Lease("local").take()
    assert ours()
    assert pauses == []


def test_a_lease_that_is_given_back_meanwhile_is_taken(pauses):
    held_by(ELSEWHERE)
    pauses += [NodeLease.objects.all().delete]
    Lease("local").take()
    assert ours()


def test_a_lease_that_another_takes_meanwhile_is_refused(pauses):
    held_by(ELSEWHERE, age=timedelta(seconds=4))
    pauses += [lambda: NodeLease.objects.update(holder="8 8 b c", token="another", renewed_at=Now())]
    with pytest.raises(NodeTakenError, match="pid 8 on c"):
        Lease("local").take()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "prepare", [lambda: None, lambda: held_by(ELSEWHERE, age=TOO_OLD)], ids=["new", "free"]
)
def test_a_lease_that_several_take_at_the_same_time_goes_to_one_of_them(prepare):
    prepare()
    start, refused = Barrier(6), []

    def take() -> None:
        lease = Lease("local")
        start.wait()
        try:
            lease.take()
        except NodeTakenError as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 5
    assert ours()


# --- Keeping it ----------------------------------------------------------------------------------------


def test_a_renewed_one_is_held_for_as_long_again():
    lease = Lease("local")
    lease.take()
    aged(timedelta(seconds=10))
    lease.renew()
    assert not NodeLease.objects.filter(renewed_at__lt=Now() - timedelta(seconds=5)).exists()


def test_a_lease_that_could_not_be_renewed_for_long_is_ours_if_nobody_took_it():
    lease = Lease("local")
    lease.take()
    aged(timedelta(hours=1))
    lease.renew()
    assert ours()


def test_a_lease_that_another_has_by_now_is_lost():
    lease = Lease("local")
    lease.take()
    NodeLease.objects.update(holder=ELSEWHERE, token="theirs", renewed_at=Now())
    with pytest.raises(NodeTakenError, match="pid 77 on gpu-2"):
        lease.renew()


@pytest.mark.parametrize("gone", [lambda: NodeLease.objects.all().delete(), lambda: aged(TOO_OLD)])
def test_a_lease_that_another_has_had_and_left_is_taken_again(gone):
    lease = Lease("local")
    lease.take()
    NodeLease.objects.update(holder=ELSEWHERE, token="theirs", renewed_at=Now())
    gone()
    lease.renew()
    assert ours()


# --- Giving it back ------------------------------------------------------------------------------------


def test_the_next_one_need_not_wait_for_one_that_was_given_back():
    first = Lease("local")
    first.take()
    first.release()
    Lease("local").take()


def test_a_lease_that_is_lost_is_not_given_back():
    lease = Lease("local")
    lease.take()
    NodeLease.objects.update(holder=ELSEWHERE, token="theirs")
    lease.release()
    assert NodeLease.objects.exists()
