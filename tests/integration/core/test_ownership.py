"""Which listening socket belongs to a server of ours, with real processes."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace

import psutil
import pytest

from supervisor_app.core.machine import ownership
from supervisor_app.core.machine.listeners import in_the_way, is_blocked
from supervisor_app.core.machine.ownership import own_endpoint
from tests.integration.core.other_users import OTHER, listener_of, needs_root
from tests.integration.spawning import FAKE, fake_spec, until_async

# Which address is left


@needs_root
async def test_an_address_of_two_that_is_taken_by_a_stranger_leaves_the_other(processes, monkeypatch):
    both = {"::1", "127.0.0.1"}
    monkeypatch.setattr("supervisor_app.core.machine.listeners.addresses_of", lambda host: both)
    spec = fake_spec()
    with listener_of(OTHER, spec.port, "::1"):
        assert await processes.port_holder("default", spec) is None
        with listener_of(OTHER, spec.port):
            holder = await processes.port_holder("default", spec)
            assert not holder.is_llama_server
            assert holder.foreign_user == f"uid {OTHER}"
            assert is_blocked(spec, in_the_way(spec))


@needs_root
async def test_our_own_on_one_address_is_found_beside_a_stranger_on_the_other(
    processes, started, monkeypatch
):
    both = {"::1", "127.0.0.1"}
    spec = fake_spec()
    process = await started(spec)
    monkeypatch.setattr("supervisor_app.core.machine.listeners.addresses_of", lambda host: both)
    with listener_of(OTHER, spec.port, "::1"):
        holder = await processes.port_holder("default", spec)
        assert holder.identity == process.identity
        assert (await process.endpoint(spec)).address == "127.0.0.1"


@needs_root
async def test_a_process_that_was_ours_once_and_is_of_a_stranger_is_not_resumed(processes):
    spec = fake_spec()
    with listener_of(OTHER, spec.port):
        holder = await processes.port_holder("default", spec)
        assert await processes.find("default", holder.identity, spec) is None
        named = replace(spec, trusted_uids=frozenset({OTHER}))
        assert (await processes.find("default", holder.identity, named)).identity == holder.identity


async def test_a_process_that_was_started_for_another_server_is_named_after_that(
    processes, started, tmp_path
):
    spec = fake_spec()
    await started(spec)
    assert (await processes.port_holder("default", spec)).server == ""
    assert (await processes.port_holder("another", spec)).server == "default"
    (tmp_path / "logs/default.log").rename(tmp_path / "logs/default.log-20261130")
    assert (await processes.port_holder("another", spec)).server == "default"


async def test_a_process_whose_output_goes_elsewhere_was_started_for_no_server(processes):
    spec = fake_spec()
    with subprocess.Popen(spec.argv, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as stranger:
        await until_async(lambda: processes.port_holder("default", spec))
        assert (await processes.port_holder("default", spec)).server == ""
        stranger.kill()


# Whose it is, where that is not plain to see


@pytest.mark.parametrize(
    "server",
    [
        f'"{sys.executable}" "{FAKE}" "$@" & wait',
        f'setsid --fork "{sys.executable}" "{FAKE}" "$@" </dev/null & exec sleep 60',
    ],
    ids=["a child", "one that has left its family but writes to its log"],
)
async def test_the_child_of_a_process_is_its_own(processes, server):
    spec = fake_spec()
    wrapped = replace(spec, command=("sh", "-c", server, "llama-server"))
    process = await processes.spawn("default", wrapped)
    try:
        await until_async(lambda: process.endpoint(spec))
        assert not (await process.endpoint(spec)).unseen
    finally:
        process.kill()
        await process.wait()
        await processes.end_rest("default")


@contextmanager
def elsewhere(port: int, *through: str):
    """A server that no child of ours is, and that writes to another place."""
    command = [*through, sys.executable, str(FAKE), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as child:
        try:
            yield child
        finally:
            with suppress(psutil.Error):
                for process in psutil.Process(child.pid).children(recursive=True):
                    process.kill()
            child.kill()


@pytest.fixture
async def wrapper(processes):
    """A process that seems to run a server and only waits, as an attached `docker run` does."""
    waiting = replace(fake_spec(), command=("sleep",), args=("60",))
    process = await processes.spawn("default", waiting)
    yield process
    process.kill()
    await process.wait()


def long_ago(monkeypatch):
    monkeypatch.setattr(ownership, "SETTLED_SECONDS", 0.0)


@needs_root
async def test_a_newer_process_in_a_container_is_taken_for_the_servers_own_and_told(
    processes, wrapper, monkeypatch
):
    long_ago(monkeypatch)
    spec = fake_spec()
    with elsewhere(spec.port, "unshare", "--pid", "--fork", "--kill-child"):
        await until_async(lambda: wrapper.endpoint(spec))
        assert "in a container" in (await wrapper.endpoint(spec)).unseen


async def test_a_process_seen_to_be_another_is_never_taken_for_the_servers_own(
    processes, wrapper, monkeypatch
):
    long_ago(monkeypatch)
    spec = fake_spec()
    with elsewhere(spec.port):
        await until_async(lambda: processes.port_holder("default", spec))
        assert await wrapper.endpoint(spec) is None


@needs_root
async def test_a_process_of_another_user_is_never_taken_for_the_servers_own(processes, wrapper, monkeypatch):
    long_ago(monkeypatch)
    monkeypatch.setattr(ownership, "holder_of_socket", lambda found, pids=None: None)
    spec = fake_spec()
    with listener_of(OTHER, spec.port):
        assert await wrapper.endpoint(spec) is None


@pytest.mark.parametrize(("readable", "said"), [(True, "which process has the socket"), (False, "has open")])
async def test_an_unseen_listener_is_taken_for_the_servers_own_after_a_while(
    processes, wrapper, monkeypatch, readable, said
):
    spec = fake_spec()
    monkeypatch.setattr(ownership, "holder_of_socket", lambda found, pids=None: None)
    if not readable:
        monkeypatch.setattr(ownership, "sockets_of", lambda pid: None)
    with elsewhere(spec.port):
        await until_async(lambda: processes.port_holder("default", spec))
        await until_async(lambda: wrapper.endpoint(spec))
        assert said in (await wrapper.endpoint(spec)).unseen


async def test_a_process_owns_nothing_where_nobody_listens(wrapper):
    assert own_endpoint([], fake_spec(), wrapper.identity, None) is None


async def test_a_process_that_has_gone_owns_nothing(processes, wrapper):
    spec = fake_spec()
    with elsewhere(spec.port) as other:
        await until_async(lambda: processes.port_holder("default", spec))
        wrapper.kill()
        await wrapper.wait()
        assert own_endpoint(in_the_way(spec), spec, wrapper.identity, None) is None
        assert not ownership.has_lived(wrapper.identity.pid, 0.0)
        assert not ownership.is_contained(2**22 + 1)
        assert ownership.is_newer(other.pid, wrapper.identity)
