"""Listening sockets of other users of the machine."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager

import pytest

OTHER = 54321
"""A uid that is nobody's."""
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
