"""What a gateway asks its servers, and what it tells of their answers: slots and metrics."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.edge import link
from supervisor_app.gateway.servers import fetch, scrape
from tests.integration.building import (
    MODEL,
    db,
    eventually,
    make_ready_server,
    make_record,
    make_server,
    make_state,
)
from tests.integration.gateway.linking import announce, facts, linked
from tests.integration.gateway.scripts import Scripted, answers, dies, hangs, waits_for
from tests.unit.gateway.test_gate import Visitor, enter, visitors

pytestmark = pytest.mark.django_db(transaction=True)

SLOTS = json.dumps({"total_slots": 2}).encode()


# --- What it asks servers ------------------------------------------------------------------------------


def by_path(**scripts):
    """`props` answers `/props`, and so on; all else is not there."""

    async def script(call):
        path = call.first_line.split()[1].removeprefix("/")
        return await scripts.get(path, answers(b"{}", 404))(call)

    return script


@asynccontextmanager
async def scripted(*scripts):
    server = Scripted(*scripts)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def make_scripted(server, name="default", **fields):
    return await db(make_ready_server, name, url=f"http://127.0.0.1:{server.port}", pid=11, **fields)


async def test_a_server_says_itself_how_many_slots_it_has(by_news_only):
    async with scripted(by_path(props=answers(SLOTS))) as server:
        await make_scripted(server)
        async with linked(api_key="hunter2") as gateway:
            await eventually(lambda: gateway.backends["default"].gate.capacity == 2)
        (call,) = server.calls
        assert call.fields["authorization"] == "Bearer hunter2"


async def test_a_server_is_asked_for_its_slots_once_in_each_life(by_news_only, looks):
    four = json.dumps({"total_slots": 4}).encode()
    async with scripted(answers(SLOTS), answers(four)) as server:
        await make_scripted(server)
        async with linked() as gateway:
            gate = gateway.backends["default"].gate
            await eventually(lambda: gate.capacity == 2)
            url = facts(gateway).url
            await announce(Status.READY, 2, pid=11, url=url)
            await announce(Status.CRASHED, 3, url=url)
            await announce(Status.READY, 4, pid=12, url=url)
            await eventually(lambda: gate.capacity == 4)
        assert len(server.calls) == 2


@pytest.mark.parametrize(
    ("props", "status"),
    [
        (b"{}", 200),
        (b"[]", 200),
        (b"\xff", 200),
        (b'{"total_slots": "many"}', 200),
        (b'{"total_slots": null}', 200),
        (b'{"total_slots": 1e999}', 200),
        (b"[" * 100_000, 200),
        (b"{}", 401),
    ],
)
async def test_a_server_that_does_not_tell_its_slots_has_no_limit_and_is_asked_once(
    often, looks, props, status
):
    async with scripted(answers(props, status)) as server:
        await make_scripted(server)
        async with linked() as gateway:
            await eventually(lambda: gateway.backends["default"].gate.capacity == 0)
            looks.clear()
            await eventually(lambda: len(looks) > 3)
        assert len(server.calls) == 1


async def test_a_server_that_did_not_answer_is_asked_again(often):
    async with scripted(dies(), dies(), answers(SLOTS)) as server:
        await make_scripted(server)
        async with linked() as gateway:
            gate = gateway.backends["default"].gate
            assert gate.capacity == 1
            await eventually(lambda: gate.capacity == 2)


async def test_requests_that_waited_for_a_first_start_are_let_in_by_its_slots(by_news_only):
    says, guests = asyncio.Event(), visitors(12)
    async with scripted(waits_for(says, answers(SLOTS))) as server:
        url = f"http://127.0.0.1:{server.port}"
        await db(make_state, await db(make_server), "starting", version=1, url=url)
        async with linked() as gateway:
            gate = gateway.backends["default"].gate
            enter(gate, *guests)
            await announce(Status.READY, 2, pid=11, url=url)
            await server.until_called()
            assert len(gate.inside) == 1
            says.set()
            await eventually(lambda: len(gate.inside) == 2)
            assert gate.capacity == 2


async def test_a_new_process_that_does_not_tell_its_slots_is_taken_to_have_the_last_ones(by_news_only):
    async with scripted(answers(SLOTS), answers(b"{}", 401)) as server:
        await make_scripted(server)
        async with linked() as gateway:
            gate = gateway.backends["default"].gate
            await eventually(lambda: gate.capacity == 2)
            url = facts(gateway).url
            await announce(Status.CRASHED, 2, url=url)
            await announce(Status.READY, 3, pid=12, url=url)
            await server.until_called(2)
            await eventually(lambda: all(call.left for call in server.calls))
            assert gate.capacity == 2


# --- Metrics -------------------------------------------------------------------------------------------


THEIRS = b"# HELP llamacpp:n_decode_total Decodes.\n# TYPE llamacpp:n_decode_total counter\nllamacpp:n_decode_total 7\n"


async def metrics(gateway):
    return (await gateway.outside.metrics()).decode()


async def test_the_metrics_of_all_are_in_one_exposition(by_news_only):
    async with (
        scripted(by_path(metrics=answers(THEIRS))) as one,
        scripted(by_path(metrics=answers(THEIRS))) as two,
    ):
        await make_scripted(one, "one", served=[MODEL.as_json()])
        await make_scripted(two, "two")
        await db(make_server, "down")
        async with linked() as gateway:
            gateway.outside.record(make_record(server="one", model=MODEL.id))
            gateway.outside.record(make_record(server="", model="made up"))
            lines = (await metrics(gateway)).splitlines()
    assert 'llamacpp:n_decode_total{server="one",model="model"} 7' in lines
    assert 'llamacpp:n_decode_total{server="two",model="model"} 7' in lines
    assert lines.count("# TYPE llamacpp:n_decode_total counter") == 1
    assert 'llamaproxy_requests_total{model="model",outcome="ok",server="one"} 1.0' in lines
    assert 'llamaproxy_requests_total{model="other",outcome="ok",server=""} 1.0' in lines
    assert 'llamaproxy_requests_in_flight{model="model",server="down"} 0.0' in lines
    assert 'llamaproxy_server_up{server="one"} 1.0' in lines
    assert 'llamaproxy_server_up{server="down"} 0.0' in lines


async def test_each_server_hears_once_of_many_who_scrape_at_once(by_news_only):
    says = asyncio.Event()
    async with scripted(by_path(props=answers(SLOTS), metrics=waits_for(says, answers(THEIRS)))) as server:
        await make_scripted(server)
        async with linked() as gateway:
            crowd = [asyncio.create_task(metrics(gateway)) for _ in range(20)]
            await server.until_called(2)
            crowd[0].cancel()  # who leaves takes nobody's away
            says.set()
            _, *told = await asyncio.gather(*crowd, return_exceptions=True)
            assert all("n_decode_total" in each for each in told)
            assert "n_decode_total" in await metrics(gateway)
        asked = [call.first_line.split()[1] for call in server.calls]
        assert sorted(asked) == ["/metrics", "/metrics", "/props"]


async def test_a_server_without_metrics_and_a_lost_database_leave_the_other_metrics(by_news_only, outage):
    async with scripted(by_path(metrics=answers(THEIRS))) as one, scripted(by_path()) as two:
        await make_scripted(one, "one")
        await make_scripted(two, "two")
        async with linked() as gateway:
            outage.lasts = True
            told = await metrics(gateway)
    assert 'llamacpp:n_decode_total{server="one"' in told
    assert 'llamacpp:n_decode_total{server="two"' not in told
    assert "llamaproxy_requests_in_flight" in told
    assert "llamaproxy_server_up" not in told


async def test_requests_in_flight_and_held_are_counted_by_the_model_that_is_used(by_news_only):
    url = "http://127.0.0.1:8134"
    busy = await db(make_server, "busy", max_concurrent=1)
    await db(make_state, busy, "ready", url=url, served=[MODEL.as_json()])
    await db(make_server, "router", model_path="", models_dir="models")
    async with linked() as gateway:
        for model in (MODEL.id, MODEL.id, "busy", "made up", ""):
            gateway.backends["busy"].gate.enter(Visitor(model=model))
        lines = (await metrics(gateway)).splitlines()
    told = sorted(
        line for line in lines if line.startswith(("llamaproxy_requests_in_", "llamaproxy_requests_h"))
    )
    assert told == [
        'llamaproxy_requests_held{model="",server="router"} 0.0',
        'llamaproxy_requests_held{model="busy",server="busy"} 4.0',
        'llamaproxy_requests_in_flight{model="",server="router"} 0.0',
        'llamaproxy_requests_in_flight{model="busy",server="busy"} 1.0',
    ]


REQUESTS = 'llamaproxy_requests_total{model="",outcome="ok",server=""}'


async def test_workers_tell_what_the_others_have_counted_while_they_run_and_after(
    by_news_only, tmp_path, monkeypatch
):
    monkeypatch.setattr(link, "SAVE_SECONDS", 0.02)
    other = tmp_path / "2.json"
    async with linked(counts=tmp_path / "1.json") as gateway:
        async with linked(counts=other) as second:
            second.outside.record(make_record(server="", model=""))
            await eventually(lambda: other.exists() and '"ok"' in other.read_text())  # nobody has asked it
            assert f"{REQUESTS} 1.0" in await metrics(gateway)
            second.outside.record(make_record(server="", model=""))
        assert f"{REQUESTS} 2.0" in await metrics(gateway)


def as_router(models, loaded):
    """`models`: what it says there is; `loaded`: the names of those that have metrics."""
    asked = {f"metrics?model={model}&autoload=false": answers(THEIRS) for model in loaded}
    no_model = b'{"error": {"message": "model name is missing from the request"}}'
    listing = answers(json.dumps(models).encode())
    return by_path(metrics=answers(no_model, 400), models=listing, **asked)


def listed(**status):
    return {"data": [{"id": model, "status": {"value": value}} for model, value in status.items()]}


async def models_told(gateway):
    lines = (await metrics(gateway)).splitlines()
    return [line for line in lines if line.startswith("llamacpp:")]


async def test_a_router_is_asked_for_each_model_that_is_loaded(by_news_only):
    models = listed(
        **{"a": "loaded", "org/b c": "sleeping", "d": "unloaded", "e": "loading", "gone": "loaded"}
    )
    async with scripted(as_router(models, ["a", "org%2Fb%20c", "d", "e"])) as server:
        await make_scripted(server)
        async with linked(api_key="hunter2") as gateway:
            assert await models_told(gateway) == [
                'llamacpp:n_decode_total{server="default",model="a"} 7',
                'llamacpp:n_decode_total{server="default",model="org/b c"} 7',
            ]
        assert {call.fields["authorization"] for call in server.calls} == {"Bearer hunter2"}


async def test_a_router_of_many_models_is_asked_for_some(by_news_only, monkeypatch):
    monkeypatch.setattr(scrape, "MOST_MODELS", 2)
    async with scripted(as_router(listed(a="loaded", b="loaded", c="loaded"), "abc")) as server:
        await make_scripted(server)
        async with linked() as gateway:
            assert len(await models_told(gateway)) == 2


async def test_a_model_that_hangs_leaves_the_others(by_news_only, monkeypatch):
    monkeypatch.setattr(scrape, "SECONDS", 1.0)
    models = listed(hangs="loaded", a="loaded")
    script = as_router(models, "a")
    hanging = hangs()

    async def one_hangs(call):
        return await (hanging if "model=hangs" in call.first_line else script)(call)

    async with scripted(one_hangs) as server:
        await make_scripted(server)
        async with linked() as gateway:
            assert len(await models_told(gateway)) == 1


@pytest.mark.parametrize(
    "models",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"data": [{"id": "a"}]}',
        b'{"data": [{"status": {"value": "loaded"}}]}',
        None,
    ],
)
async def test_a_router_that_does_not_say_its_models_has_no_metrics(by_news_only, models):
    script = by_path(metrics=answers(b"{}", 400), models=answers(models or b"", 200 if models else 500))
    async with scripted(script) as server:
        await make_scripted(server)
        async with linked() as gateway:
            assert await models_told(gateway) == []


async def test_a_router_that_keeps_no_metrics_is_not_asked_for_models(by_news_only):
    async with scripted(by_path(metrics=answers(b"{}", 501))) as server:
        await make_scripted(server)
        async with linked() as gateway:
            assert await models_told(gateway) == []
        assert not [call for call in server.calls if "/models" in call.first_line]


# --- fetch ---------------------------------------------------------------------------------------------


async def test_a_server_that_does_not_answer_in_time_is_left_alone(by_news_only, monkeypatch):
    monkeypatch.setattr(fetch, "FETCH_SECONDS", 0.05)
    async with scripted(hangs()) as server:
        await make_scripted(server)
        async with linked() as gateway:
            with pytest.raises(fetch.FetchError, match="no answer"):
                await fetch.fetch(gateway.backends["default"], "/metrics")
            await eventually(lambda: all(call.left for call in server.calls))


async def test_more_than_anybody_can_mean_is_cut_off(by_news_only, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 10)
    async with scripted(answers(b"x" * 100)) as server:
        await make_scripted(server)
        async with linked() as gateway:
            assert await fetch.fetch(gateway.backends["default"], "/metrics") == b"x" * 10


async def test_an_answer_that_comes_too_late_is_nobodys():
    """In the same moment in which the time is over."""
    answer = asyncio.get_running_loop().create_future()
    listener = fetch._Fetch(answer)
    answer.cancel()
    listener.on_end()
    listener.on_lost("reset")
    assert answer.cancelled()


async def test_the_link_waits_for_no_server_at_the_end(by_news_only):
    async with scripted(hangs()) as server:
        await make_scripted(server)
        async with linked():
            call = await server.until_called()
        await call.until_left()
