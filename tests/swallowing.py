"""A TCP proxy whose far end can vanish without a word: nothing passes, and nobody is told."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress


class SwallowingProxy:
    """Forwards to `port` on this machine, until it swallows. Connections of that time never hear again."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._lost: set[socket.socket] = set()
        self._swallows = False
        self._ends = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def swallow(self) -> None:
        self._swallows = True

    def pass_again(self) -> None:
        """Let through what connects from now on.

        The connections of before stay lost, as those to a host that was restarted behind a firewall.
        """
        self._lost = set(self._pairs)
        self._swallows = False

    def close(self) -> None:
        self._ends = True
        self._thread.join()

    def _run(self) -> None:
        while not self._ends:
            for key, _ in self._selector.select(0.05):
                with suppress(OSError):
                    self._accept() if key.fileobj is self._listener else self._forward(key.fileobj)
        for each in [self._listener, *self._pairs]:
            each.close()
        self._selector.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(self._target)
        for one, other in ((client, server), (server, client)):
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, source: socket.socket) -> None:
        if self._swallows or source in self._lost:
            if not source.recv(65536):
                self._selector.unregister(source)
            return
        data = source.recv(65536)
        if data:
            self._pairs[source].sendall(data)
            return
        for each in (source, self._pairs.pop(source)):
            with suppress(KeyError):
                self._selector.unregister(each)
            self._pairs.pop(each, None)
            each.close()
