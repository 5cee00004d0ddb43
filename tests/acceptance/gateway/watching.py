"""What the gateway and its server are doing, as a test can see it; and an answer that takes as long as it wants."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.gateway.askers import QUESTION, events
from tests.deadline import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.harness import Proxy


class Stream:
    """An answer of so many tokens that is read as it comes."""

    def __init__(self, proxy: Proxy, tokens: int = 10**6) -> None:
        self.proxy = proxy
        self.counted = 0
        """Events so far."""
        self.error: Any = None
        """Error that was told when the stream broke off."""
        self.tokens: int | None = None
        """Number of tokens that the answer told at its end."""
        body = {"prompt": QUESTION, "n_predict": tokens, "ignore_eos": True, "stream": True}
        self._answer = requests.post(
            f"{proxy.gateway_url}/completion", json=body, stream=True, timeout=DEADLINE
        )
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Stream:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError, ValueError):  # it has ended already
            self._answer.raw.shutdown()
        self.wait()
        self._answer.close()

    def wait(self) -> None:
        """Wait until it ends."""
        self._reader.join(DEADLINE)
        assert not self._reader.is_alive(), "it goes on"

    def goes_on(self) -> None:
        """Wait for more of it."""
        enough = self.counted + 5
        self.proxy.wait_for("more words", lambda: self.counted >= enough)

    def _read(self) -> None:
        with suppress(requests.RequestException, AttributeError):  # broken off, or shut down by us
            for event in events(self._answer.iter_lines()):
                self.counted += 1
                self.error = event.get("error")
                if event.get("stop"):
                    self.tokens = event["tokens_predicted"]


def ask_long(proxy: Proxy, tokens: int) -> int:
    """Ask without a stream, and return how many tokens came."""
    body = {"prompt": QUESTION, "n_predict": tokens, "ignore_eos": True}
    answer = requests.post(f"{proxy.gateway_url}/completion", json=body, timeout=DEADLINE)
    return int(answer.json()["tokens_predicted"])


def busy_slots(proxy: Proxy) -> int:
    """Return how many answers the server works on; 0 while it ends or starts."""
    with suppress(requests.ConnectionError):
        slots = requests.get(f"{proxy.engine_url}/slots", headers=proxy.engine_headers, timeout=DEADLINE)
        return sum(slot["is_processing"] for slot in slots.json())
    return 0


def wait_until_busy(proxy: Proxy, number: int = 1) -> None:
    """Wait until the server works on so many answers at least."""
    proxy.wait_for(f"{number} in flight", lambda: busy_slots(proxy) >= number, pause=0.005)


def metric(proxy: Proxy, name: str, **labels: str) -> float:
    """A number of the gateway's own, 0 where there is none yet."""
    text = requests.get(f"{proxy.gateway_url}/metrics", timeout=DEADLINE).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@contextmanager
def ends_as(proxy: Proxy, outcome: str) -> Iterator[None]:
    """Check that a request of the block ends so."""

    def count() -> float:
        return metric(proxy, "llamaproxy_requests_total", outcome=outcome)

    before = count()
    yield
    proxy.wait_for(f"one more is {outcome}", lambda: count() == before + 1)


def wait_until_held(proxy: Proxy, number: int = 1) -> None:
    """Wait until so many requests wait at the gateway."""
    proxy.wait_for(f"{number} wait", lambda: metric(proxy, "llamaproxy_requests_held") == number)
