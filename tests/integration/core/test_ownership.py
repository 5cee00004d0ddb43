"""Whose is a listening socket, and whom has a connection reached? With real sockets and processes."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest

from supervisor_app.core.machine import ownership, sock_diag, sockets
from supervisor_app.core.machine.listeners import in_the_way, is_blocked
from supervisor_app.core.machine.ownership import own_endpoint
from supervisor_app.core.machine.sock_diag import Owner, owner
from supervisor_app.core.machine.sockets import is_surely_free, listening, stranger_at, stranger_behind
from supervisor_app.core.shortage import ShortageError
from supervisor_app.core.sightings import Endpoint, ListeningSocket
from tests.integration.spawning import FAKE, fake_spec, until_async
from tests.ports import free_port

OTHER = 54321
"""A uid that is nobody's."""
QUESTIONS = 1000
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="starts processes of another user")
LISTEN = (
    "import socket, sys; s = socket.create_server((sys.argv[1], int(sys.argv[2])), "
    "family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET); print('up', flush=True); s.accept(); "
    "print('met', flush=True); sys.stdin.read()"
)


@contextmanager
def listener_of(user: int, port: int, address: str = "127.0.0.1", code: str = LISTEN):
    """A process of this user that listens, and accepts one connection."""
    command = ["/usr/bin/python3", "-ISc", code, address, str(port)]
    with subprocess.Popen(
        command, user=user, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout.readline() == "up\n"
            yield child
        finally:
            child.kill()


@pytest.fixture
def stack():
    with ExitStack() as opened:
        yield opened


def at(port: int, address: str = "127.0.0.1", uid: int | None = None) -> Endpoint:
    return Endpoint(address=address, port=port, uid=os.getuid() if uid is None else uid)


# What the kernel says


@pytest.fixture
def without_sock_diag(monkeypatch):
    """A sandbox in which the kernel is not to be asked for sockets."""

    def refused(*_):
        raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))

    monkeypatch.setattr(sockets, "listeners", refused)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_the_listener_is_read_for_every_kind_of_address(stack, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = stack.enter_context(socket.create_server((address, 0), family=family))
    port, inode = server.getsockname()[1], os.fstat(server.fileno()).st_ino
    (found,) = listening(port)
    assert found == ListeningSocket(address=address, port=port, uid=os.getuid(), inode=inode)
    assert owner((found.reachable_at, port)) == Owner(os.getuid(), inode, listens=True)
    assert sockets.holder_of_socket(found) == os.getpid()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_the_tables_of_connections_say_the_same(stack, address, request):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    port = stack.enter_context(socket.create_server((address, 0), family=family)).getsockname()[1]
    told = listening(port)
    request.getfixturevalue("without_sock_diag")
    assert listening(port) == told != []


def test_all_who_share_a_port_are_told(stack):
    first = stack.enter_context(socket.create_server(("127.0.0.1", 0), reuse_port=True))
    address = first.getsockname()
    others = [
        stack.enter_context(socket.create_server(address, reuse_port=True, backlog=1)) for _ in range(300)
    ]
    inodes = {os.fstat(server.fileno()).st_ino for server in (first, *others)}
    assert {found.inode for found in listening(address[1])} == inodes, "also in several parts of an answer"


def test_a_port_is_surely_free_when_the_kernel_says_so(stack, request):
    server = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
    port = server.getsockname()[1]
    assert not is_surely_free(port)
    server.close()
    assert is_surely_free(port)
    request.getfixturevalue("without_sock_diag")
    assert not is_surely_free(port)


def test_a_question_that_failed_spoils_no_other_one(stack):
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    where = ("127.0.0.1", server.getsockname()[1])
    with pytest.raises(OSError, match="too long"):
        sock_diag.ask_for_one(b"x" * 2**24)
    assert owner(where) == Owner(os.getuid(), os.fstat(server.fileno()).st_ino, listens=True)


def test_whether_the_kernel_answers_is_found_by_a_question(monkeypatch):
    assert sock_diag.answers()
    monkeypatch.setattr(socket, "AF_NETLINK", -1)
    with ThreadPoolExecutor(1) as pool:  # each thread keeps a socket of its own
        assert not pool.submit(sock_diag.answers).result()


def test_an_answer_that_is_none_is_an_error(monkeypatch):
    monkeypatch.setattr(sock_diag, "_messages", lambda part: iter([(0, b"")]))
    with pytest.raises(OSError, match="does not tell"):
        sock_diag.listeners(1)


def test_a_child_and_its_parent_get_each_their_own_answers(stack):
    servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
    mine, others = [each.getsockname() for each in servers]
    assert owner(mine)
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as child:
        asked = child.submit(inodes_seen_at, others)
        for _ in range(QUESTIONS):
            assert owner(mine).inode == os.fstat(servers[0].fileno()).st_ino
        assert asked.result() == {os.fstat(servers[1].fileno()).st_ino}


def inodes_seen_at(address):
    return {owner(address).inode for _ in range(QUESTIONS)}


def test_an_ipv4_address_in_the_clothes_of_ipv6_is_itself():
    assert sockets.plain("::ffff:10.0.0.1") == "10.0.0.1"
    assert sockets.plain("::1") == "::1"


def test_without_ipv6_there_is_one_table(stack, monkeypatch, tmp_path, without_sock_diag):
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_bytes(Path("/proc/net/tcp").read_bytes())
    monkeypatch.setattr(sockets, "PROC", tmp_path)
    assert [found.address for found in listening(server.getsockname()[1])] == ["127.0.0.1"]


def test_elsewhere_psutil_tells_who_listens(stack, monkeypatch):
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    monkeypatch.setattr(sys, "platform", "darwin")
    (found,) = listening(server.getsockname()[1])
    assert (found.pid, found.uid, found.inode) == (os.getpid(), os.getuid(), 0)
    assert sockets.holder_of_socket(found) == os.getpid()
    assert sockets.holder_of_socket(found, [1]) is None
    assert sockets.uid_of(2**22 + 1) is None


def test_where_the_system_names_no_namespaces_a_realm_is_a_boot(monkeypatch):
    def unreadable(path, **_):
        raise OSError

    sockets.realm.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", unreadable)
        assert "/" not in sockets.realm()
    sockets.realm.cache_clear()
    assert sockets.realm().count("/") == 2


@needs_root
def test_users_are_named():
    assert sockets.name_of(0) == "root, uid 0"
    assert sockets.name_of(OTHER) == f"uid {OTHER}"
    assert sockets.name_of(None) == "unknown"


def test_a_descriptor_that_is_closed_while_it_is_looked_at_is_none():
    assert sockets.link_target(os.getpid(), "99999") == ""
    assert sockets.sockets_of(2**22 + 1) is None


# Whom a connection has reached


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("accepted", [False, True])
def test_our_own_process_is_no_stranger(stack, address, accepted):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = stack.enter_context(socket.create_server((address, 0), family=family))
    port = server.getsockname()[1]
    client = stack.enter_context(socket.create_connection((address, port)))
    if accepted:
        stack.enter_context(server.accept()[0])
    assert stranger_at(at(port, address)) == ""
    assert stranger_behind(client, os.getuid()) == ""


@needs_root
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_process_of_another_user_is_one(stack, address):
    port = free_port()
    with listener_of(OTHER, port, address) as child:
        assert f"uid {OTHER}" in stranger_at(at(port, address))
        client = stack.enter_context(socket.create_connection((address, port)))
        assert child.stdout.readline() == "met\n"
        assert f"uid {OTHER}" in stranger_behind(client, os.getuid())
        assert stranger_behind(client, OTHER) == ""


@needs_root
def test_a_connection_that_another_user_has_accepted_stays_strange_when_our_own_listens_again(stack):
    """Its listener is gone, ours is in its place, and the connection is still with the other one."""
    leaves = LISTEN.replace("s.accept()", "c = s.accept()").replace("print('met'", "s.close(); print('met'")
    port = free_port()
    with listener_of(OTHER, port, code=leaves) as child:
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert child.stdout.readline() == "met\n"
        stack.enter_context(socket.create_server(("127.0.0.1", port)))
        assert stranger_at(at(port)) == ""
        assert f"uid {OTHER}" in stranger_behind(client, os.getuid())


def test_a_listener_that_went_before_anybody_accepted_is_a_stranger(stack):
    server = socket.create_server(("127.0.0.1", 0))
    client = stack.enter_context(socket.create_connection(server.getsockname()))
    before = stranger_behind(client, os.getuid())
    server.close()
    assert (before, stranger_behind(client, os.getuid())) == ("", "a process that has gone meanwhile")


@needs_root
def test_an_accepted_connection_whose_listener_went_is_a_strangers_to_others(stack):
    server = socket.create_server(("127.0.0.1", 0))
    client = stack.enter_context(socket.create_connection(server.getsockname()))
    accepted = stack.enter_context(server.accept()[0])
    server.close()
    assert accepted.fileno() >= 0
    assert stranger_behind(client, os.getuid()) == ""
    assert "another user" in stranger_behind(client, OTHER)


@pytest.mark.parametrize("second", [None, Owner(0, 2, listens=True)])
def test_a_process_that_left_between_two_looks_is_gone(stack, monkeypatch, second):
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    client = stack.enter_context(socket.create_connection(server.getsockname()))
    looks = iter([Owner(0, 1, listens=True), second])
    monkeypatch.setattr(sockets, "owner", lambda local, remote=None: next(looks))
    assert stranger_behind(client, os.getuid()) == "a process that has gone meanwhile"


def test_nobody_is_no_stranger_and_where_users_are_unknown_none_is():
    nowhere = at(free_port())
    assert stranger_at(nowhere) == ""
    assert stranger_at(replace(nowhere, uid=None)) == ""


@pytest.fixture
def no_sock_diag(monkeypatch):
    """Returns a function that says with which error it fails."""

    def failing(number):
        def fail(local, remote=None):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(sockets, "owner", fail)

    return failing


def test_without_sock_diag_the_table_of_sockets_tells(stack, no_sock_diag):
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    client = stack.enter_context(socket.create_connection(server.getsockname()))
    port = server.getsockname()[1]
    no_sock_diag(errno.EPROTONOSUPPORT)
    assert (stranger_at(at(port)), stranger_behind(client, os.getuid())) == ("", "")
    assert "another user" in stranger_at(at(port, uid=OTHER))
    assert "another user" in stranger_behind(client, OTHER)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_a_look_that_fails_for_want_of_our_own_says_nothing_of_who_listens(stack, no_sock_diag, number):
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    client = stack.enter_context(socket.create_connection(server.getsockname()))
    no_sock_diag(number)
    with pytest.raises(ShortageError):
        stranger_at(at(server.getsockname()[1]))
    with pytest.raises(ShortageError):
        stranger_behind(client, os.getuid())


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
async def test_nor_is_what_belongs_to_another_user(processes, wrapper, monkeypatch):
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


async def test_where_nobody_listens_nothing_is_its_own(wrapper):
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
