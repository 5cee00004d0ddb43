"""Each role tells systemd that it has begun, and that its event loops go round."""

from __future__ import annotations

import socket
import tempfile
from contextlib import closing

from tests.deadline import DEADLINE


def signs_of_life(proxy, start):
    """Collect what the process that `start` starts tells systemd."""
    with (
        tempfile.TemporaryDirectory() as short,  # an address of this kind may have 107 characters
        closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd,
    ):
        address = f"{short}/notify"
        proxy.env |= {"WATCHDOG_USEC": "400000", "NOTIFY_SOCKET": address}
        systemd.bind(address)
        systemd.settimeout(DEADLINE)
        start()
        return [systemd.recv(100).decode() for _ in range(3)]


def test_every_role_gives_signs_of_life_to_systemd(fake):
    def supervisor():
        fake.start(web=False)

    for start in (supervisor, fake.start_web, fake.start_gateway):
        assert signs_of_life(fake, start) == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]


def test_a_process_of_all_roles_gives_signs_of_life_to_systemd(fake):
    assert signs_of_life(fake, fake.start) == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
