"""Requests that wait: for a start, for their turn, and how long that makes sense."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers.facts import Load
from tests.integration.building import eventually
from tests.integration.gateway.plane import CHAT, question, request, streaming
from tests.integration.gateway.scripts import answers, dies, hangs, loads, waits_for

SOON = 0.05
"""Seconds after which something is done that would else take long."""


async def ask_in_order(plane, number):
    """Ask from so many clients, each of which waits when the next one comes."""
    asking = []
    for each in range(number):
        asking.append(plane.asks(question(f"{each}")))
        await plane.until_waiting(each + 1)
    return asking


# --- Until it is ready ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.STARTING, Status.CRASHED, Status.STOPPING, Status.INITIAL])
async def test_while_a_server_is_away_requests_wait_for_it(plane, status):
    server = await plane.serve(answers(b"x"), status=status)
    asking = plane.asks(question())
    await plane.until_waiting(1)
    assert not server.calls
    began = plane.gateway.loop.time()
    await eventually(lambda: plane.gateway.loop.time() > began)
    server.says(status=Status.READY)
    assert (await asking).content == b"x"
    (record,) = await plane.records(1)
    assert record.outcome == Outcome.HELD
    assert record.held_ms > 0


async def test_of_a_request_that_waited_it_is_recorded_for_which_part_of_the_load(plane):
    server = await plane.serve(answers(b"x"), status=Status.STARTING)
    asking = plane.asks(question())
    await plane.until_waiting(1)
    began = plane.gateway.loop.time()
    await eventually(lambda: plane.gateway.loop.time() > began)
    now = plane.gateway.wall_time()
    server.says(status=Status.READY, load=Load(ready_at=now, room_seconds=0.0, load_seconds=60.0))
    assert (await asking).status == 200
    (record,) = await plane.records(1)
    assert 0 < record.load_ms <= record.held_ms + 1
    assert record.room_ms == 0


async def test_requests_that_waited_go_in_the_order_in_which_they_came(plane):
    server = await plane.serve(answers(), status=Status.STARTING, capacity=1)
    asking = await ask_in_order(plane, 6)
    server.says(status=Status.READY)
    assert {(await answer).status for answer in asking} == {200}
    assert server.texts == ["0", "1", "2", "3", "4", "5"]


async def test_a_server_that_is_asleep_is_woken(plane):
    server = await plane.serve(answers(b"x"), status=Status.INITIAL, wanted=False, wakes=True)
    asking = plane.asks(question())
    await eventually(lambda: plane.outside.woken == ["default"])
    server.says(status=Status.READY, wanted=True)
    assert (await asking).content == b"x"


async def test_a_server_that_is_to_make_room_gets_nothing_new_and_finishes_its_work(plane):
    server = await plane.serve(answers(b"x"), hangs(), answers(b"y"))
    assert (await plane.ask(question())).content == b"x"
    first = plane.asks(question())
    await eventually(lambda: len(server.calls) == 2)
    server.says(draining=True)
    second = plane.asks(question())
    await plane.until_waiting(1)
    assert len(server.calls) == 2
    assert not first.done()
    server.says(draining=False)
    assert (await second).content == b"y"
    first.cancel()


async def test_a_server_that_is_to_restart_finishes_its_work_while_others_wait(plane):
    done = asyncio.Event()
    server = await plane.serve(waits_for(done, answers(b"x")), answers(b"y"))
    first = plane.asks(question())
    await eventually(lambda: len(server.calls) == 1)
    server.says(status=Status.STOPPING, draining=True, detail="Draining.")
    second = plane.asks(question())
    await plane.until_waiting(1)
    done.set()
    assert (await first).content == b"x"
    assert not second.done()
    server.says(status=Status.READY, draining=False, pid=12)
    assert (await second).content == b"y"
    assert len(server.calls) == 2


async def test_a_server_that_is_to_stop_finishes_its_work_and_takes_no_more(plane):
    done = asyncio.Event()
    server = await plane.serve(waits_for(done, answers(b"x")))
    first = plane.asks(question())
    await eventually(lambda: len(server.calls) == 1)
    server.says(status=Status.STOPPING, draining=True, wanted=False)
    refused = await plane.ask(question())
    assert (refused.status, refused.error["code"]) == (503, "server_unavailable")
    assert "It was stopped." in refused.error["message"]
    done.set()
    assert (await first).content == b"x"


async def test_a_server_that_still_loads_is_asked_again(plane):
    server = await plane.serve(loads(), loads(), answers(b"x"))
    assert (await plane.ask(question())).content == b"x"
    assert len(server.calls) == 3
    assert (await plane.records(1))[0].replays == 0


async def test_an_error_503_that_is_not_about_loading_is_passed_on(plane):
    error = b'{"error": {"code": 503, "message": "no slot", "type": "unavailable_error"}}'
    server = await plane.serve(answers(error, 503))
    answer = await plane.ask(question())
    assert (answer.status, answer.content, len(server.calls)) == (503, error, 1)


async def test_a_server_that_refuses_connections_is_asked_again(plane):
    server = await plane.serve(answers(b"x"))
    await server.stop()
    asking = plane.asks(question())
    await plane.until_waiting(1)
    await server.start()
    assert (await asking).content == b"x"
    assert len(server.calls) == 1


async def test_a_server_that_moved_is_found(plane):
    server = await plane.serve(answers(b"old"))
    assert (await plane.ask(question())).content == b"old"
    other = await plane.serve(answers(b"new"), name="other")
    server.says(url=f"http://127.0.0.1:{other.port}")
    assert (await plane.ask(question(model="default"))).content == b"new"


# --- No longer than makes sense ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "message"), [(0, "Nobody may wait for default."), (1, "1 request waits for default already.")]
)
async def test_how_many_wait_is_said_in_words(plane, number, message):
    await plane.serve(answers(), status=Status.STARTING, max_queue=number)
    asking = await ask_in_order(plane, number)
    assert (await plane.ask(question())).error["message"] == message
    for each in asking:
        each.cancel()


async def test_at_the_end_of_the_gateway_nobody_who_waits_is_sent(plane):
    server = await plane.serve(answers(), hangs(), capacity=1)
    assert (await plane.ask(question("keeps a connection open"))).status == 200
    inside = plane.asks(streaming())
    await plane.until_inside(1)
    waiting = [plane.asks(question("waits")) for _ in range(8)]
    await plane.until_waiting(8)
    await plane.gateway.drain(0.0)
    assert {(await each).error["code"] for each in (inside, *waiting)} == {"gateway_stopping"}
    await server.stop()
    assert len(server.calls) == 2


async def test_when_so_many_wait_others_are_told_to_come_back(plane):
    server = await plane.serve(answers(), status=Status.STARTING, max_queue=2, start_seconds=7.2)
    asking = await ask_in_order(plane, 2)
    answer = await plane.ask(question())
    assert (answer.status, answer.error["code"], answer.error["type"]) == (
        429,
        "queue_full",
        "rate_limit_error",
    )
    assert answer.fields["retry-after"] == "8"
    assert answer.error["message"] == "2 requests wait for default already."
    server.says(status=Status.READY)
    assert [(await each).status for each in asking] == [200, 200]
    assert (await plane.records(3))[0].outcome == Outcome.UNAVAILABLE


async def test_a_client_sent_away_after_a_crash_is_told_when_the_pause_is_over(plane):
    retry_at = plane.gateway.wall_time() + 30
    await plane.serve(answers(), status=Status.CRASHED, max_queue=0, start_seconds=7.2, retry_at=retry_at)
    answer = await plane.ask(question())
    assert (answer.status, answer.error["code"]) == (429, "queue_full")
    assert 31 < int(answer.fields["retry-after"]) <= 38


@pytest.mark.parametrize(
    "facts",
    [{"status": Status.ERROR}, {"status": Status.INITIAL, "wanted": False}],
    ids=["it gave up", "it is stopped on purpose"],
)
async def test_where_waiting_is_hopeless_the_supervisor_s_sentence_is_the_answer(plane, facts):
    sentence = "Model file missing: /m.gguf. It starts by itself when the file appears."
    await plane.serve(answers(), detail=sentence, **facts)
    answer = await plane.ask(question())
    assert (answer.status, answer.error["code"]) == (503, "server_unavailable")
    assert answer.error["message"] == f"default: {sentence}"
    assert int(answer.fields["retry-after"]) > 0
    assert (answer.fields["x-should-retry"], answer.error["retryable"]) == ("false", False)


async def test_a_server_that_can_never_fit_is_refused_with_a_code_of_its_own(plane):
    sentence = "Does not fit into memory: `default` needs 22.4 GiB on GPU 0. Free are 9.1 GiB."
    await plane.serve(answers(), status=Status.ERROR, failure="does_not_fit", detail=sentence)
    answer = await plane.ask(question())
    assert (answer.status, answer.error["code"]) == (503, "does_not_fit")
    assert answer.error["message"] == f"default: {sentence}"
    assert (answer.fields["x-should-retry"], answer.error["retryable"]) == ("false", False)


@pytest.mark.parametrize(
    ("facts", "refused"),
    [
        ({"status": Status.STARTING, "hold_seconds": SOON}, (503, "hold_timeout")),
        ({"status": Status.STARTING, "max_queue": 0}, (429, "queue_full")),
        ({"status": Status.STOPPING, "wanted": False}, (503, "server_unavailable")),
    ],
    ids=["it was too slow", "too many wait", "it stops"],
)
async def test_a_request_may_be_tried_again_if_the_trouble_may_end_by_itself(plane, facts, refused):
    await plane.serve(answers(), **facts)
    answer = await plane.ask(question())
    assert (answer.status, answer.error["code"]) == refused
    assert "x-should-retry" not in answer.fields
    assert int(answer.fields["retry-after"]) > 0


@pytest.mark.parametrize("path", ["/", "/v1/chat/completions"])
@pytest.mark.parametrize("status", [Status.STARTING, Status.CRASHED])
async def test_a_request_that_only_asks_whether_a_server_is_there_does_not_wait(plane, path, status):
    await plane.serve(answers(), status=status, detail="Loading the model.")
    answer = await plane.ask(request(path, method="HEAD"), to_head=True)
    assert (answer.status, "x-should-retry" in answer.fields) == (503, False)
    assert int(answer.fields["retry-after"]) > 0
    assert plane.outside.woken == []


async def test_a_request_that_only_asks_whether_a_server_is_there_is_not_held_after_a_loss(plane):
    server = await plane.serve(dies())
    answer = await plane.ask(request("/", method="HEAD"), to_head=True)
    assert (answer.status, len(server.calls)) == (503, 1)


async def test_a_waiting_request_is_refused_at_once_when_its_server_is_in_error(plane):
    server = await plane.serve(answers(), status=Status.CRASHED)
    asking = await ask_in_order(plane, 3)
    server.says(status=Status.ERROR, detail="Retries used up.")
    for each in asking:
        answer = await each
        assert (answer.status, answer.error["message"]) == (503, "default: Retries used up.")


async def test_a_waiting_request_is_not_told_of_a_retry_that_somebody_has_called_off(plane):
    server = await plane.serve(answers(), status=Status.CRASHED, detail="Retry 1 of 5 after 14 s.")
    asking = await ask_in_order(plane, 1)
    server.says(wanted=False)  # which its supervisor has not seen yet
    assert (await asking[0]).error["message"] == "default: It was stopped."
    answer = await plane.ask(question())
    assert (answer.status, answer.error["message"]) == (503, "default: It was stopped.")


async def test_a_waiting_request_is_refused_at_once_when_its_server_is_gone(plane):
    await plane.serve(answers(), status=Status.CRASHED)
    asking = plane.asks(question())
    await plane.until_waiting(1)
    plane.gateway.learn({})
    answer = await asking
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


async def test_nobody_waits_longer_than_allowed(plane):
    await plane.serve(answers(), status=Status.STARTING, detail="Loading: 40 %.", hold_seconds=SOON)
    answer = await plane.ask(question())
    assert (answer.status, answer.error["code"]) == (503, "hold_timeout")
    assert answer.error["message"] == f"default: Not ready within {SOON} s. Loading: 40 %."
    assert "retry-after" in answer.fields
    (record,) = await plane.records(1)
    assert record.outcome == Outcome.UNAVAILABLE
    assert record.held_ms > SOON * 900


async def test_a_request_queued_at_a_serving_server_is_not_sent_away(plane):
    server = await plane.serve(hangs(), answers(b"x"), capacity=1, hold_seconds=SOON)
    first = await plane.connect()
    await first.send(question("first"))
    await server.until_called()
    asking = plane.asks(question("second"))
    await plane.until_waiting(1)
    await asyncio.sleep(4 * SOON)
    first.leave()
    assert (await asking).content == b"x"


@pytest.mark.parametrize("gone", ["refuses", "loads"])
async def test_nobody_waits_longer_than_allowed_for_what_nobody_supervises(plane, gone):
    """Its supervisor says that it is ready, and says nothing more."""
    server = await plane.serve(loads(), hold_seconds=0.3)
    if gone == "refuses":
        await server.stop()
    answer = await plane.ask(question())
    assert (answer.status, answer.error["code"]) == (503, "hold_timeout")


async def test_a_server_that_loads_is_not_asked_all_the_time(plane):
    server = await plane.serve(loads(), hold_seconds=1.0)
    asking = [plane.asks(question()) for _ in range(20)]
    assert {(await each).status for each in asking} == {503}
    assert len(server.calls) < 20 * 10


async def test_a_body_that_is_too_long_to_be_kept_may_wait_longer_than_a_body_may_take(plane):
    plane.limit(replay_bytes=1000, body_seconds=0.5)
    server = await plane.serve(answers(b"x"), status=Status.STARTING)
    caller = await plane.connect()
    sending = asyncio.create_task(caller.ask(request(CHAT, body=b"y" * 3_000_000)))
    await plane.until_waiting(1)
    await asyncio.sleep(1.0)  # nobody reads it in that time, for which its client is not to blame
    server.says(status=Status.READY)
    assert (await sending).content == b"x"
    assert server.contents == [b"y" * 3_000_000]
