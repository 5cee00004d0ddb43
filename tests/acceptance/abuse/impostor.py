"""A program of another user that says it is llama-server, and writes down every byte that it is told."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.children import wait_for

SOMEBODY = 54321
"""A uid that is nobody else's here."""
PYTHON = "/usr/bin/python3"
"""A Python that every user may run."""
CODE = r"""
import socket, sys, threading, time
address, port = sys.argv[1], int(sys.argv[2])
print(f"listening={address}:{port} as llama-server", file=sys.stderr)
body = b'{"status":"ok","data":[{"id":"mine"}],"total_slots":1,"choices":[{"text":"stolen"}]}'
answer = b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"

def serve(connection):
    while data := connection.recv(65536):
        print("HEARD", data, flush=True)
        connection.sendall(answer % (len(body), body))

while True:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen()
    except OSError:
        listener.close()
        time.sleep(0.0005)
        continue
    print("LISTENS", flush=True)
    while True:
        connection, _ = listener.accept()
        print("MET", flush=True)
        threading.Thread(target=serve, args=[connection], daemon=True).start()
"""
needs_root = pytest.mark.skipif(
    os.getuid() != 0 or not Path(PYTHON).exists(), reason="plays another user: needs root"
)


class Impostor:
    """A program of another user that tries to get an address until it has it."""

    def __init__(self, address: str, port: int, log: Path, *, user: int = SOMEBODY) -> None:
        self.log = log
        with log.open("wb") as output:
            # The name on its command line is llama-server's.
            self.process = subprocess.Popen(
                ["llama-server", "-ISc", CODE, address, str(port)],
                executable=PYTHON,
                stdout=output,
                stderr=subprocess.DEVNULL,
                user=user,
                group=user,
                extra_groups=[],
                cwd="/",
            )

    @property
    def listens(self) -> bool:
        return "LISTENS" in self.log.read_text()

    @property
    def met(self) -> int:
        """Return how many connections were made to it."""
        return self.log.read_text().count("MET")

    @property
    def heard(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith("HEARD")]

    def wait(self) -> None:
        wait_for("the impostor listens", lambda: self.listens, self.log.read_text, 0.005)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def impostor(address, port, tmp_path, **options):
    made = Impostor(address, port, tmp_path / f"impostor-{port}.log", **options)
    try:
        yield made
    finally:
        made.end()
