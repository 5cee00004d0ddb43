"""The clients of the tests: a WebSocket that remembers, a stream that does not end."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.deadline import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Events:
    """A WebSocket and all that came over it: parsed where it is JSON, else HTML."""

    def __init__(self, url: str, **options: Any) -> None:
        self._stack = ExitStack()
        opening = connect(url, open_timeout=DEADLINE, close_timeout=1, proxy=None, **options)
        self._socket = self._stack.enter_context(opening)
        self.messages: list[Any] = []
        self.closed_with: int | None = None

    @property
    def story(self) -> list[tuple[str, Any]]:
        """Status and pid as they were told, without repetitions."""
        told = [(message["data"]["status"], message["data"]["pid"]) for message in self.messages]
        return [now for now, before in zip(told, [None, *told], strict=False) if now != before]

    def send(self, text: str | bytes) -> None:
        self._socket.send(text)

    def next(self, seconds: float = DEADLINE) -> Any:
        """The next message. Raises TimeoutError, ConnectionClosed."""
        try:
            text = self._socket.recv(seconds)
        except ConnectionClosed as error:
            self.closed_with = error.rcvd.code if error.rcvd else 1006
            raise
        with suppress(ValueError):
            text = json.loads(text)
        self.messages.append(text)
        return text

    def wait_for(self, what: str, fits: Callable[[Any], bool]) -> Any:
        """The next message that fits; those before it stay in `messages`."""
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                message = self.next(max(0.0, deadline - time.monotonic()))
            except (TimeoutError, ConnectionClosed) as error:
                got = "\n".join(str(message)[:300] for message in self.messages[-20:])
                raise AssertionError(f"no event: {what} ({error!r}); the last were\n{got}") from error
            if fits(message):
                return message

    def wait_for_status(self, status: str) -> Any:
        """The data of the next event with this status."""
        found = self.wait_for(status, lambda message: message.get("data", {}).get("status") == status)
        return found["data"]

    def wait_for_new_pid(self, old: int) -> Any:
        """The data of the next event that shows another process ready."""

        def fits(message: Any) -> bool:
            return message["data"]["status"] == "ready" and message["data"]["pid"] != old

        return self.wait_for(f"ready with another pid than {old}", fits)["data"]

    def until_closed(self) -> int:
        """The close code, after everything before it."""
        while self.closed_with is None:
            with suppress(ConnectionClosed):
                self.next()
        return self.closed_with

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def asking(port: int) -> Iterator[socket.socket]:
    """A client that has asked for a streamed answer without an end, and waits."""
    body = json.dumps({"messages": [], "max_tokens": 10**6, "stream": True})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"{head}{body}".encode())
        yield client


@contextmanager
def generating(port: int, headers: Mapping[str, str]) -> Iterator[None]:
    """A client of llama-server itself, in the middle of a streamed answer that has no end."""
    body = {"messages": [{"role": "user", "content": "go on"}], "max_tokens": 10**6, "stream": True}
    with requests.Session() as session:
        session.trust_env = False
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        with session.post(url, json=body, headers=headers, stream=True, timeout=DEADLINE) as answer:
            begun = threading.Event()

            def read() -> None:
                with suppress(requests.RequestException, AttributeError):
                    for line in answer.iter_lines():
                        if b'"content":"' in line.replace(b" ", b""):
                            begun.set()

            reader = threading.Thread(target=read)
            reader.start()
            assert begun.wait(DEADLINE), "it generates nothing"
            yield
            # The connection ends with the server.
            reader.join(DEADLINE)
            assert not reader.is_alive(), "the stream goes on"
