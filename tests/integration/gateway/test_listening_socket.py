"""The socket that the gateway listens on, and the limit of files for its connections."""

from __future__ import annotations

import errno
import resource
import socket

import pytest

from supervisor_app.core.machine.file_limit import WANTED, raise_file_limit
from supervisor_app.gateway.edge.service import is_loopback, listening_socket
from tests.ports import port_of

pytestmark = pytest.mark.usefixtures("process_as_before")


# --- The socket ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "family", "v6_only"),
    [("127.0.0.1", socket.AF_INET, None), ("::1", socket.AF_INET6, 1), ("::", socket.AF_INET6, 0)],
)
def test_the_gateway_listens_on_addresses_of_both_kinds(host, family, v6_only):
    with listening_socket(host, 0) as bound:
        assert (bound.family, bound.getsockname()[0]) == (family, host)
        if v6_only is not None:  # all addresses means those of IPv4, too
            assert bound.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == v6_only


def test_an_address_that_somebody_else_has_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError) as raised:
        listening_socket("127.0.0.1", port_of(other))
    assert raised.value.errno == errno.EADDRINUSE


def test_an_address_that_is_not_of_this_machine_is_an_error():
    with pytest.raises(OSError) as raised:
        listening_socket("203.0.113.1", 0)
    assert raised.value.errno == errno.EADDRNOTAVAIL


def test_only_those_who_want_to_share_an_address_can():
    with listening_socket("127.0.0.1", 0, shared=True) as one:
        one.listen()
        listening_socket("127.0.0.1", port_of(one), shared=True).close()
        with pytest.raises(OSError) as raised:
            listening_socket("127.0.0.1", port_of(one))
    assert raised.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.7.7.7", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.7", False),
        ("gpu-1.lan", False),
        ("", False),
    ],
)
def test_an_address_of_this_machine_alone_is_told_from_others(host, expected):
    assert is_loopback(host) is expected


# --- The limit of open files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1024, 524_288, WANTED),
        (1024, resource.RLIM_INFINITY, WANTED),
        (1024, 4096, 4096),
        (4096, 4096, None),
        (524_288, 524_288, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_the_gateway_may_open_as_many_files_as_it_has_connections(monkeypatch, soft, hard, expected):
    changes = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: changes.append(limits))
    raise_file_limit()
    assert changes == ([] if expected is None else [(expected, hard)])


def test_the_kernel_takes_the_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    raise_file_limit()
    soft, still_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft > 256
    assert still_hard == hard
