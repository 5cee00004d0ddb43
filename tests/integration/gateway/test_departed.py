"""Clients that leave at once: what they asked counts as in flight, and frames nobody who is still there."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.servers import ghosts
from tests.deadline import DEADLINE
from tests.integration.building import eventually
from tests.integration.gateway.plane import question, request
from tests.integration.gateway.scripts import answers

POISON = "poison"


class Mortal:
    """A server that falls once a client who sent poison has left, and comes back a moment later."""

    def __init__(self, plane):
        self._plane = plane
        self.poisoned = 0
        self.fallen = 0
        self.cured = False
        self.asked = []

    async def start(self, **facts):
        self.server = await self._plane.serve(self._script, **facts)
        return self.server

    async def _script(self, call):
        content = await call.body()
        self.asked.append(content)
        if POISON.encode() in content:
            self.poisoned += 1
            await call.until_left()
            self.fallen += 1
            self.server.drop_all()
            self.server.crashed()
            asyncio.get_running_loop().call_later(0.01, self.server.restarted)
            return False
        if not self.cured:
            await call.until_left()
            return False
        return await answers(b"innocent")(call)


async def attack(plane, mortal, path):
    """Sends the poison and leaves as soon as the server has it."""
    doses, deaths = mortal.poisoned, mortal.fallen
    caller = await plane.connect()
    await caller.send(question(POISON, path))
    await eventually(lambda: mortal.poisoned > doses, DEADLINE)
    caller.leave()
    await eventually(lambda: mortal.fallen > deaths, DEADLINE)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/tokenize"])
async def test_a_client_that_sends_poison_and_leaves_does_not_frame_another(plane, path):
    mortal = Mortal(plane)
    server = await mortal.start(capacity=4)
    victim = plane.asks(question("victim"))
    await server.until_called(1)
    await attack(plane, mortal, path)
    await eventually(lambda: sum(b"victim" in content for content in mortal.asked) == 2, DEADLINE)
    await attack(plane, mortal, path)
    await eventually(lambda: sum(b"victim" in content for content in mortal.asked) == 3, DEADLINE)
    # Both are suspects by now, so the third dose has to wait until the victim has gone.
    caller = await plane.connect()
    await caller.send(question(POISON, path))
    await plane.until_waiting(1)
    assert mortal.poisoned == 2
    mortal.cured = True
    mortal.server.drop_all()  # whatever the victim was answered with, it is asked again
    assert (await victim).content == b"innocent"
    await eventually(lambda: mortal.poisoned == 3, DEADLINE)
    caller.leave()
    await eventually(lambda: plane.outside.entries, DEADLINE)
    assert mortal.fallen == 3
    answer = await plane.ask(question(POISON, path))
    assert (answer.status, answer.error["code"]) == (422, "quarantined")
    assert (await plane.ask(question("victim"))).content == b"innocent"


async def test_a_client_that_leaves_each_time_is_found_out_alone(plane):
    mortal = Mortal(plane)
    await mortal.start()
    for _ in range(3):
        await attack(plane, mortal, "/v1/embeddings")
    await eventually(lambda: plane.outside.entries, DEADLINE)
    assert mortal.fallen == 3


async def test_copies_that_leave_together_are_one_request(plane):
    mortal = Mortal(plane)
    await mortal.start()
    callers = [await plane.connect() for _ in range(4)]
    for caller in callers:
        await caller.send(question(POISON))
    await eventually(lambda: mortal.poisoned == 4, DEADLINE)
    for caller in callers:
        caller.leave()
    await eventually(lambda: plane.gateway.inquest.suspects.entries, DEADLINE)
    ((suspicion, _),) = plane.gateway.inquest.suspects.entries.values()
    assert (suspicion.crashes, suspicion.deaths) == (1, 1)


async def test_a_server_that_lives_on_clears_whoever_has_left(plane, monkeypatch):
    monkeypatch.setattr(ghosts, "ALIVE_SECONDS", 0.05)
    mortal = Mortal(plane)
    await mortal.start()
    caller = await plane.connect()
    await caller.send(question("slow"))
    await eventually(lambda: mortal.asked, DEADLINE)
    caller.leave()
    gate = plane.gateway.backends["default"].gate
    await eventually(lambda: gate.ghosts, DEADLINE)
    mortal.cured = True

    async def asked_until_laid():
        while gate.ghosts:
            await plane.ask(question("hello"))

    async with asyncio.timeout(DEADLINE):
        await asked_until_laid()


async def test_the_same_body_with_another_key_is_another_request(plane):
    policies = [
        KeyPolicy(id=number, name=name, digest=digest_of(f"lp-{name}")) for number, name in enumerate("ab")
    ]
    plane.gateway.door.keys = KeyRing(policies)
    asked = []

    async def script(call):
        await call.body()
        asked.append(call.fields)
        if len(asked) <= 3:
            server.drop_all()
            server.crashed()
            asyncio.get_running_loop().call_later(0.01, server.restarted)
            return False
        return await answers(b"fine")(call)

    server = await plane.serve(script)
    data = question("framed").replace(b"Host:", b"Authorization: Bearer lp-%s\r\nHost:", 1)
    guilty = await plane.ask(data.replace(b"%s", b"a"))
    assert (guilty.status, guilty.error["code"]) == (422, "quarantined")
    assert plane.outside.entries[0].key == 0
    assert (await plane.ask(data.replace(b"%s", b"b"))).content == b"fine"


async def test_a_key_that_changes_its_poison_and_leaves_each_time_is_paused(plane):
    policies = [
        KeyPolicy(id=number, name=name, digest=digest_of(f"lp-{name}")) for number, name in enumerate("ab", 1)
    ]
    plane.gateway.door.keys = KeyRing(policies)
    mortal = Mortal(plane)
    await mortal.start()
    mortal.cured = True

    def data(text, name):
        return request(
            "/v1/embeddings", f"Authorization: Bearer lp-{name}", body={"model": "default", "input": text}
        )

    for number in range(4):
        caller = await plane.connect()
        await caller.send(data(f"{POISON} {number}", "a"))
        doses = number + 1
        await eventually(lambda doses=doses: mortal.poisoned == doses, DEADLINE)  # type: ignore[misc]
        caller.leave()
        await eventually(lambda doses=doses: mortal.fallen == doses, DEADLINE)  # type: ignore[misc]
        await plane.ask(data("harmless", "b"))
    await eventually(lambda: plane.outside.entries, DEADLINE)
    (entry,) = plane.outside.entries
    assert (entry.key, len(entry.deaths)) == (1, 4)
    answer = await plane.ask(data("harmless", "a"))
    assert (answer.status, answer.error["code"]) == (429, "key_paused")
    assert (await plane.ask(data("harmless", "b"))).content == b"innocent"
