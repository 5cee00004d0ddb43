"""Two workers before one server, here in one event loop: together they are one gateway."""

from __future__ import annotations

from time import monotonic

import pytest

from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.edge.service import board_beside
from supervisor_app.gateway.servers import ghosts
from tests.integration.gateway.plane import EMBEDDINGS, question, request, start_plane, streaming
from tests.integration.gateway.scripts import answers, event, hangs, stream_of
from tests.unit.gateway.boards import make_boards


class Together:
    """Two planes, `a` and `b`, and a server that both know."""

    def __init__(self, a, b, server):
        self.a = a
        self.b = b
        self.server = server

    def hear(self):
        """The second one, what the first one has heard."""
        self.b.gateway.hear(self.server.facts)

    def fall(self):
        self.server.drop_all()
        self.server.crashed()
        self.hear()

    def restart(self):
        self.server.restarted()
        self.hear()


@pytest.fixture
async def together(tmp_path):
    a, b = [await start_plane(board) for board in make_boards(tmp_path, 2, monotonic())]
    together = Together(a, b, await a.serve(hangs(), capacity=1))
    together.hear()
    yield together
    await b.close()
    await a.close()  # and the server


async def test_a_request_that_waits_at_one_worker_goes_when_the_other_has_room(together):
    first = together.a.asks(question())
    await together.server.until_called()
    together.server.scripts = [answers(b"hello")]
    second = together.b.asks(question())
    await together.b.until_waiting(1)
    first.cancel()
    assert (await second).content == b"hello"


async def test_a_worker_may_use_of_a_key_what_the_other_has_left_of_it(together):
    key = KeyPolicy(id=1, name="chat", digest=digest_of("lp-chat"), max_concurrent=1)
    for plane in (together.a, together.b):
        plane.gateway.door.keys = KeyRing([key])
    body = {"model": "default", "input": "hi"}
    asks = request(EMBEDDINGS, "Authorization: Bearer lp-chat", body=body)
    running = together.a.asks(asks)
    await together.server.until_called()
    assert (await together.b.ask(asks)).error["code"] == "rate_limit_exceeded"
    together.server.scripts = [answers(b"hello")]
    running.cancel()
    await together.a.until_inside(0)
    assert (await together.b.ask(asks)).content == b"hello"


async def test_a_poison_that_comes_again_at_the_other_is_found_as_soon(together):
    together.server.scripts = [hangs(stream_of(event("Once")))]
    for number, plane in enumerate((together.a, together.b, together.a), 1):
        asking = plane.asks(streaming("poison"))
        await together.server.until_called(number)
        await plane.until_begun()
        together.fall()
        assert (await asking).is_broken
        together.restart()
    for plane in (together.b, together.a):
        assert (await plane.ask(streaming("poison"))).error["code"] == "quarantined"
    assert not together.b.outside.entries


async def test_a_suspect_at_one_is_alone_at_both(together, monkeypatch):
    monkeypatch.setattr(ghosts, "SILENT_SECONDS", 0.05)
    together.server.scripts = [hangs(stream_of(event("Once")))]
    together.server.says(capacity=8)
    together.hear()
    for number, plane in enumerate((together.a, together.b), 1):
        asking = plane.asks(streaming("perhaps poison"))
        await together.server.until_called(number)
        await plane.until_begun()
        together.fall()
        await asking
        together.restart()
    together.server.scripts = [hangs(), answers(b"survived")]
    innocent = together.b.asks(question("slow"))
    await together.b.until_inside(1)
    suspect = together.a.asks(streaming("perhaps poison"))
    await together.a.until_waiting(1)
    innocent.cancel()
    assert (await suspect).content == b"survived"
    for plane in (together.a, together.b):
        plane.gateway.inquest.suspects.refresh()
        assert not plane.gateway.inquest.suspects.entries


def test_without_a_board_a_worker_counts_for_itself_and_says_so(tmp_path, caplog):
    assert board_beside(tmp_path / "1.json") is None
    (message,) = caplog.messages
    assert message.startswith("⚠️ [GATEWAY] What this worker counts and limits, it does for itself: ")
