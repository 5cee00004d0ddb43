"""The Python of a worker, by name: `python worker.py ADDRESS -u -c CODE` lets a fork of the template run the code."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys


def main() -> int:
    """Hand input, output and error output to the fork; return its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the fork has it as well, and ends
    teller, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    order = {"code": sys.argv[-1], "environment": dict(os.environ), "directory": os.getcwd()}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as orders:
        orders.connect(sys.argv[1])
        socket.send_fds(orders, [json.dumps(order).encode()], [0, 1, 2, other.fileno()])
    other.close()
    # The end of a worker is seen by the end of its output, which therefore is the fork's alone.
    os.close(0)
    os.close(1)
    teller.recv(20)  # its pid
    return int(teller.recv(20) or 1)


if __name__ == "__main__":
    sys.exit(main())
