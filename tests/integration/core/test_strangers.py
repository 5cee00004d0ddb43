"""Whom has a connection reached? With real sockets of this user and of others."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from dataclasses import replace

import pytest

from supervisor_app.core.machine import sockets
from supervisor_app.core.machine.sock_diag import Owner
from supervisor_app.core.machine.sockets import stranger_at, stranger_behind
from supervisor_app.core.shortage import ShortageError
from supervisor_app.core.sightings import Endpoint
from tests.integration.core.other_users import LISTEN, OTHER, listener_of, needs_root
from tests.ports import free_port


@pytest.fixture
def stack():
    with ExitStack() as opened:
        yield opened


def at(port: int, address: str = "127.0.0.1", uid: int | None = None) -> Endpoint:
    return Endpoint(address=address, port=port, uid=os.getuid() if uid is None else uid)


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
def test_a_connection_accepted_by_another_user_stays_strange_when_we_listen_again(stack):
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
