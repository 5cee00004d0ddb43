"""Requests that kill servers: the guilty one is found, and nobody else suffers for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.plane import inquest
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers import ghosts
from supervisor_app.gateway.servers.facts import End
from tests.integration.building import eventually
from tests.integration.gateway.plane import CHAT, question, request, streaming
from tests.integration.gateway.scripts import answers, deaf, event, hangs, sends, stream_of


class Fragile:
    """A server that falls when a question has `poison` in it, and is ready again a moment later."""

    def __init__(self, plane, *, falls=99, blameless=False, together=(1, 1), is_seen=True, says=b""):
        self.fallen = 0
        self._says = says
        """To the poison, before it falls."""
        self.asked = []
        self._plane = plane
        self._falls = falls
        self._blameless = blameless
        self._is_seen = is_seen
        """Its supervisor sees each fall before the gateway does."""
        self._together = together
        """So many requests are in flight when it falls the first time and the second."""
        self._calm = asyncio.Event()

    async def start(self, **facts):
        self.server = await self._plane.serve(self.script, **facts)
        return self.server

    async def script(self, call):
        content = await call.body()
        self.asked.append(content)
        if b"poison" not in content:
            if max(self._together) > 1:
                await self._calm.wait()
            return await answers(b"innocent")(call)
        if self.fallen < 2:
            inside = self._plane.gateway.backends["default"].gate.inside
            await eventually(lambda: len(inside) == self._together[self.fallen])
        if self.fallen == self._falls:
            return await answers(b"survived")(call)
        if self._says:
            await call.send(self._says)
            await self._plane.until_begun()
        self._fall()
        return False

    def _fall(self):
        self.fallen += 1
        if self.fallen == 2:
            self._calm.set()
        self.server.drop_all()
        if self._is_seen:
            self.server.crashed()
        asyncio.get_running_loop().call_later(0.01, lambda: self.server.restarted(blameless=self._blameless))


POISON = {"json": question("poison"), "stream": streaming("poison"), "other": request(CHAT, body=b"poison")}


@pytest.mark.parametrize("is_seen", [True, False], ids=["supervisor first", "gateway first"])
@pytest.mark.parametrize("data", POISON.values(), ids=POISON)
async def test_a_request_that_kills_its_server_three_times_alone_is_put_into_quarantine(plane, data, is_seen):
    fragile = Fragile(plane, is_seen=is_seen)
    await fragile.start()
    answer = await plane.ask(data)
    assert (answer.status, answer.error["code"], answer.error["incident"]) == (422, "quarantined", "3")
    assert fragile.fallen == 3
    (entry,) = plane.outside.entries
    assert (entry.server, entry.run_name, entry.reason) == ("default", "3", "It crashed.")
    assert entry.until - entry.at == 3600
    (record,) = await plane.records(1)
    assert (record.outcome, record.status, record.replays) == (Outcome.QUARANTINED, 422, 2)


CONTENT = stream_of(event("Once"))


@pytest.mark.parametrize("is_seen", [True, False], ids=["supervisor first", "gateway first"])
async def test_a_stream_that_kills_its_server_after_content_is_quarantined_the_next_time(plane, is_seen):
    fragile = Fragile(plane, is_seen=is_seen, says=CONTENT)
    await fragile.start()
    for number in (1, 2, 3):
        answer = await plane.ask(streaming("poison"))
        assert (answer.status, answer.is_broken) == (200, True)
        assert f'"incident":"{number}"'.encode() in answer.content
    answer = await plane.ask(streaming("poison"))
    assert (answer.status, answer.error["code"], answer.error["incident"]) == (422, "quarantined", "3")
    assert fragile.fallen == 3
    assert len(plane.outside.entries) == 1


async def test_a_broken_stream_that_comes_again_goes_alone_and_clears_itself(plane, monkeypatch):
    monkeypatch.setattr(ghosts, "SILENT_SECONDS", 0.05)
    fragile = Fragile(plane, falls=2, says=CONTENT)
    await fragile.start()
    for _ in range(2):
        await plane.ask(streaming("poison"))
    fragile.server.scripts = [hangs(), fragile.script]
    innocent = plane.asks(question("slow"))
    await plane.until_inside(1)
    suspect = plane.asks(streaming("poison"))
    await plane.until_waiting(1)
    innocent.cancel()
    assert (await suspect).content == b"survived"
    assert not plane.gateway.inquest.suspects.entries
    assert not plane.outside.entries


async def test_a_stream_that_broke_when_somebody_ended_the_server_is_not_suspected(plane):
    fragile = Fragile(plane, blameless=True, says=CONTENT)
    await fragile.start()
    for _ in range(6):
        answer = await plane.ask(streaming("poison"))
        assert (answer.status, answer.is_broken) == (200, True)
    assert not plane.gateway.inquest.suspects.entries
    assert not plane.outside.entries


async def serve_fragile(plane, fallen, name="default", *, stays_down=False, told=True, **facts):
    """A server that falls at `poison`. With `stays_down` somebody else says when it is back.

    `told`: its supervisor knows at once how it ended.
    """

    async def script(call):
        content = await call.body()
        if b"poison" not in content:
            return await answers(b"innocent")(call)
        fallen.append(name)
        server.drop_all()
        end = {server.facts.pid: End(blameless=False, sentence="It crashed.")}
        server.crashed(ends={**server.facts.ends, **(end if told else {})})
        if not stays_down:
            asyncio.get_running_loop().call_later(0.02, server.restarted)
        return False

    server = await plane.serve(script, name=name, **facts)
    return server


@pytest.mark.parametrize("told", [True, False], ids=["told at once", "told later"])
@pytest.mark.parametrize("number", [2, 5])
async def test_a_request_that_kills_one_server_after_the_other_is_found_as_soon(plane, number, told):
    fallen = []
    for index in range(number):
        shared = {"models": ("shared",), "offered": ("shared",), "told": told}
        await serve_fragile(plane, fallen, f"server {index}", pid=1000 * (index + 1), **shared)
    answer = await plane.ask(request(CHAT, body={"model": "shared", "messages": ["poison"]}))
    assert (answer.status, answer.error["code"]) == (422, "quarantined")
    assert len(fallen) == 3
    assert len(set(fallen)) > 1
    (record,) = await plane.records(1)
    assert (record.outcome, record.replays) == (Outcome.QUARANTINED, 2)


async def test_a_request_answered_after_a_loss_is_not_accused_of_it(plane):
    server = await plane.serve(sends(b""), answers(b"hello"))
    assert (await plane.ask(question())).content == b"hello"
    server.restarted()
    assert not plane.gateway.inquest.suspects.entries
    assert not plane.gateway.backends["default"].losses.accusations


async def test_a_request_refused_for_its_past_is_recorded_with_that_run(plane):
    fallen = []
    await serve_fragile(plane, fallen)
    for _ in range(2):
        assert (await plane.ask(question("poison"))).status == 422
    first, second = await plane.records(2)
    assert (second.server, second.run_name) == (first.server, first.run_name) == ("default", "3")


async def test_a_record_that_cannot_be_made_keeps_no_other_from_being_made(plane, monkeypatch, caplog):
    await plane.serve(answers(b"x"))
    failing = iter([True])
    record = plane.outside.record

    def fails_once(made):
        if next(failing, False):
            raise ZeroDivisionError
        record(made)

    monkeypatch.setattr(plane.outside, "record", fails_once)
    for _ in range(3):
        await plane.ask(question())
    await plane.records(2)
    assert "This is a mistake in llamaproxy" in caplog.text


async def test_a_request_whose_client_leaves_after_each_crash_is_found_all_the_same(plane):
    fallen = []
    server = await serve_fragile(plane, fallen, stays_down=True)
    for number in (1, 2, 3):
        caller = await plane.connect()
        await caller.send(question("poison"))
        await plane.until_waiting(1)
        assert len(fallen) == number
        caller.leave()
        await plane.until_waiting(0)
        server.restarted()
    assert (await plane.ask(question("poison"))).error["code"] == "quarantined"
    assert len(fallen) == 3


async def test_a_body_too_long_to_be_kept_is_known_again_by_its_beginning_and_length(plane):
    plane.limit(replay_bytes=1000)
    fallen = []
    server = await serve_fragile(plane, fallen, stays_down=True)
    poison, water = question("poison" + "x" * 5000), question("waters" + "x" * 5000)
    for _ in range(3):
        assert (await plane.ask(poison)).error["code"] == "upstream_crashed"
        server.restarted()
    assert (await plane.ask(poison)).error["code"] == "quarantined"
    assert (await plane.ask(water)).content == b"innocent"
    assert len(fallen) == 3


async def test_a_server_that_runs_on_was_not_killed_by_a_request_that_lost_its_connection(plane, monkeypatch):
    monkeypatch.setattr(inquest, "ACCUSED_SECONDS", 0.05)
    server = await plane.serve(hangs(stream_of(event("a"))), answers(b"x"))
    asking = plane.asks(streaming("poison"))
    await plane.until_begun()
    server.drop_all()
    assert (await asking).is_broken
    await asyncio.sleep(0.1)
    server.restarted()
    assert not plane.gateway.inquest.suspects.entries
    assert not plane.gateway.backends["default"].losses.accusations


async def test_a_request_lost_at_a_removed_server_is_told_at_once(plane):
    server = await plane.serve(hangs())
    asking = plane.asks(question())
    await server.until_called()
    plane.gateway.learn({})
    server.drop_all()
    answer = await asking
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


async def test_a_quarantined_request_reaches_no_server(plane):
    fragile = Fragile(plane)
    await fragile.start()
    await plane.ask(question("poison"))
    seen = len(fragile.asked)
    answer = await plane.ask(question("poison"))
    assert (answer.status, answer.error["code"]) == (422, "quarantined")
    assert "asked again for 1 h" in answer.error["message"]
    assert len(fragile.asked) == seen
    assert (await plane.ask(question("water"))).content == b"innocent"
    assert [record.outcome for record in await plane.records(3)] == [
        Outcome.QUARANTINED,
        Outcome.QUARANTINED,
        Outcome.OK,
    ]


async def test_a_released_request_is_tried_again(plane):
    fragile = Fragile(plane, falls=3)
    await fragile.start()
    assert (await plane.ask(question("poison"))).status == 422
    plane.gateway.inquest.quarantined.replace([])
    assert (await plane.ask(question("poison"))).content == b"survived"


async def test_a_request_that_another_gateway_quarantined_is_refused_here(plane):
    fragile = Fragile(plane)
    await fragile.start()
    await plane.ask(question("poison"))
    (entry,) = plane.outside.entries
    plane.gateway.inquest.quarantined.replace([replace(entry, run_name="from elsewhere")])
    assert (await plane.ask(question("poison"))).error["incident"] == "from elsewhere"


@pytest.mark.parametrize("is_seen", [True, False], ids=["supervisor first", "gateway first"])
async def test_innocent_requests_in_the_same_crashes_are_answered(plane, is_seen):
    fragile = Fragile(plane, together=(4, 4), is_seen=is_seen)
    await fragile.start()
    innocent = [plane.asks(question(f"{number}")) for number in range(3)]
    await plane.until_inside(3)
    guilty = await plane.ask(question("poison"))
    assert guilty.status == 422
    assert [(await answer).content for answer in innocent] == [b"innocent"] * 3
    assert len(plane.outside.entries) == 1
    outcomes = sorted(record.outcome for record in await plane.records(4))
    assert outcomes == sorted([Outcome.QUARANTINED] + [Outcome.REPLAYED] * 3)


async def test_suspects_go_one_after_the_other_and_who_comes_later_waits(plane):
    fragile = Fragile(plane, together=(3, 3))
    await fragile.start()
    most = 0

    def watch(call, script=fragile.script):
        nonlocal most
        if fragile.fallen == 2:
            most = max(most, len(plane.gateway.backends["default"].gate.inside))
        return script(call)

    fragile.server.scripts = [watch]
    innocent = [plane.asks(question(f"{number}")) for number in range(2)]
    await plane.until_inside(2)
    assert (await plane.ask(question("poison"))).status == 422
    assert {(await answer).status for answer in innocent} == {200}
    assert most == 1


async def test_a_suspect_lets_those_go_first_who_came_before_and_are_none(plane):
    elsewhere = await plane.serve(answers(), name="elsewhere", status=Status.STARTING, models=("qwen",))
    fragile = Fragile(plane, together=(1, 2))
    server = await fragile.start()
    older = plane.asks(question("water", model="qwen"))
    await plane.until_waiting(1, "elsewhere")
    guilty = plane.asks(question("poison", model="default"))
    await eventually(lambda: fragile.fallen == 1)
    server.says(models=("qwen",))
    elsewhere.says(status=Status.ERROR)
    assert (await older).content == b"innocent"
    assert (await guilty).status == 422
    assert fragile.fallen == 3


async def test_a_request_that_survives_its_suspicion_is_answered(plane):
    fragile = Fragile(plane, falls=2)
    await fragile.start()
    assert (await plane.ask(question("poison"))).content == b"survived"
    assert not plane.outside.entries
    (record,) = await plane.records(1)
    assert (record.outcome, record.replays) == (Outcome.REPLAYED, 2)


async def test_ends_from_outside_are_nobody_s_fault(plane):
    fragile = Fragile(plane, falls=4, blameless=True)
    await fragile.start()
    assert (await plane.ask(question("poison"))).content == b"survived"
    assert not plane.outside.entries


async def test_a_request_that_never_reached_a_server_is_no_suspect(plane):
    server = await plane.serve(answers(b"x"))
    with deaf() as url:
        server.says(url=url)
        asking = plane.asks(question())
        for _ in range(6):
            await plane.until_inside(1)
            server.crashed()
            await plane.until_waiting(1)
            server.restarted()
        server.crashed()
        server.says(url=f"http://127.0.0.1:{server.port}")
        server.restarted()
        assert (await asking).content == b"x"
    assert (await plane.records(1))[0].replays == 0


async def test_a_request_that_has_seen_too_many_ends_is_given_back(plane):
    fragile = Fragile(plane, blameless=True)
    await fragile.start()
    answer = await plane.ask(question("poison"))
    assert (answer.status, answer.error["code"], answer.error["retryable"]) == (502, "upstream_crashed", True)
    assert fragile.fallen == 5
    assert not plane.outside.entries


async def test_an_end_of_which_nothing_is_known_is_nobody_s_fault(plane):
    server = await plane.serve(hangs())
    asking = plane.asks(question())
    for number in range(1, 5):
        await server.until_called(number)
        server.crashed()
        await plane.until_waiting(1)
        server.says(status=Status.READY, pid=2000 + number)
    await server.until_called(5)
    server.restarted()
    assert (await asking).error["code"] == "upstream_crashed"
    assert not plane.outside.entries


async def test_a_request_that_is_answered_after_a_crash_of_others_is_no_suspect_next_time(plane):
    fragile = Fragile(plane, together=(2, 2))
    await fragile.start()
    innocent = plane.asks(question("water"))
    await plane.until_inside(1)
    assert (await plane.ask(question("poison"))).status == 422
    assert (await innocent).content == b"innocent"
    assert (await plane.ask(question("water"))).content == b"innocent"
    assert [record.replays for record in await plane.records(3)][-1] == 0
