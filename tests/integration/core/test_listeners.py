"""Whose is a listening socket: the answers of the kernel, of its tables and of psutil."""

from __future__ import annotations

import errno
import os
import socket
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import pytest

from supervisor_app.core.machine import sock_diag, sockets
from supervisor_app.core.machine.sock_diag import Owner, owner
from supervisor_app.core.machine.sockets import is_surely_free, listening
from supervisor_app.core.sightings import ListeningSocket
from tests.integration.core.other_users import OTHER, needs_root

QUESTIONS = 1000


@pytest.fixture
def stack():
    with ExitStack() as opened:
        yield opened


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


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_client_is_seen_also_before_it_is_accepted_and_when_it_sends_nothing_more(stack, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = stack.enter_context(socket.create_server((address, 0), family=family))
    port = server.getsockname()[1]
    assert not sock_diag.has_clients(port)
    client = stack.enter_context(socket.create_connection((address, port)))
    assert sock_diag.has_clients(port)
    accepted = stack.enter_context(server.accept()[0])
    client.shutdown(socket.SHUT_WR)
    assert accepted.recv(1) == b""
    assert sock_diag.has_clients(port)


def test_where_the_kernel_does_not_tell_there_may_be_clients(monkeypatch):
    monkeypatch.setattr(socket, "AF_NETLINK", -1)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(sock_diag.has_clients, 1).result()


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
