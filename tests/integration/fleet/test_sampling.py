"""Samples of a node's servers, on their way into the database and out of it."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from supervisor_app.core.sightings import MemorySample, Slot
from supervisor_app.core.vitals import Vitals
from supervisor_app.fleet import sample_record, sampling
from supervisor_app.fleet.models import Pulse, Sample
from supervisor_app.fleet.sample_rules import HOUR, KEPT, MINUTE, SECOND
from supervisor_app.fleet.sampling import Sampler
from tests.integration.building import db, eventually, make_server
from tests.integration.fleet.locking import locked

pytestmark = pytest.mark.django_db(transaction=True)

START = 1_800_000_000
"""Begin of an hour, in Unix seconds."""
WORKS = Slot(id=0, task=7, works=True, processed=500, decoded=12, used=512, size=2048)


class Node:
    """A sampler whose time and servers are those that a test says."""

    def __init__(self):
        self.now = float(START)
        self.vitals: dict[str, Vitals] = {}
        self.sampler = Sampler("local", lambda: self.vitals, dict, clock=lambda: self.now)

    def runs(self, *names, slots=(WORKS,)):
        memory = MemorySample(at=self.now, anon=2**30)
        self.vitals = {name: Vitals(at=self.now, cores=0.0, memory=memory, slots=slots) for name in names}

    async def seconds(self, count, *names, **vitals):
        """Let seconds pass, each one written before the next."""
        for _ in range(count):
            self.runs(*names, **vitals)
            await self.sampler.tick()
            await self.written()
            self.now += 1

    async def written(self):
        await eventually(lambda: self.sampler.is_idle)


@pytest.fixture
async def node(settings):
    settings.LLAMAPROXY_NODE = "local"
    await db(make_server)
    node = Node()
    yield node
    await db(node.sampler.close)


def times(name="default", since=0):
    return [at - START for at, _ in sample_record.seconds_since(name, since)]


def rows(step):
    found = Sample.objects.filter(step=step).order_by("server__name", "at")
    return [(row.server.name, row.at - START) for row in found.select_related("server")]


async def test_each_second_of_a_server_that_works_can_be_read_at_once(node):
    await node.seconds(9, "default")
    assert await db(times) == list(range(9))
    assert await db(times, since=START + 5) == [6, 7, 8]


async def test_a_batch_holds_many_seconds_in_one_row(node):
    await node.seconds(33, "default")
    assert await db(rows, SECOND) == [("default", 0), ("default", 16)]
    assert await db(times) == list(range(33))


async def test_slots_are_written_while_they_work_and_once_more_when_they_cease_to(node):
    await node.seconds(3, "default")
    (pulse,) = await db(lambda: list(Pulse.objects.all()))
    assert (pulse.slots[0]["decoded"], pulse.slots[0]["works"]) == (12, True)
    await node.seconds(7, "default", slots=(Slot(id=0, used=512, size=2048),))
    (pulse,) = await db(lambda: list(Pulse.objects.all()))
    assert (pulse.slots[0]["used"], pulse.slots[0]["works"]) == (512, False)


async def test_an_idle_server_writes_a_sample_each_minute_and_no_pulse(node):
    await node.seconds(130, "default", slots=())
    assert await db(times) == [0, 60, 120]
    assert not await db(Pulse.objects.exists)


async def test_a_server_that_has_ended_leaves_its_last_seconds(node):
    await node.seconds(20, "default")
    await node.seconds(20)
    assert await db(times) == list(range(20))


async def test_a_server_that_nobody_has_looked_at_for_long_has_no_samples(node):
    node.runs("default")
    for _ in range(20):
        await node.sampler.tick()
        node.now += 1
    await db(node.sampler.close)
    assert await db(times) == list(range(15))


async def test_the_last_seconds_are_written_at_the_end(node):
    await node.seconds(5, "default")
    await db(node.sampler.close)
    await db(Pulse.objects.all().delete)
    assert await db(times) == list(range(5))


async def test_a_server_that_was_deleted_is_no_harm_to_the_others(node):
    await db(make_server, "coder")
    await node.seconds(9, "default", "gone", "coder")
    assert await db(times, "coder") == list(range(9))


# --- Without a database --------------------------------------------------------------------------------


async def test_samples_wait_for_a_locked_database_and_are_all_there_then(node, caplog):
    await node.seconds(3, "default")
    with locked():
        await node.seconds(40, "default")
        assert caplog.text.count("Figures wait until it is back") == 1
    await node.seconds(20, "default")
    assert caplog.text.count("Figures are written again") == 1
    assert await db(times) == list(range(63))


async def test_the_oldest_samples_are_dropped_while_nobody_takes_them(node, monkeypatch):
    monkeypatch.setattr(sampling, "MOST", 30)
    with locked():
        await node.seconds(60, "default")
    await node.seconds(20, "default")
    first, *_, last = seen = await db(times)
    assert seen == list(range(first, last + 1))
    assert 15 < first <= 45
    assert last >= 75


async def test_a_batch_that_was_written_after_all_is_not_written_twice(node):
    batch = {"default": [(START, {"cpu": 1.0})]}
    await db(sample_record.write, "local", batch)
    await db(sample_record.write, "local", batch)
    assert await db(rows, SECOND) == [("default", 0)]


async def test_a_mistake_ends_no_sampling(node, caplog):
    def fail():
        raise ValueError("what a mistake")

    node.sampler = Sampler("local", lambda: node.vitals, fail, clock=lambda: node.now)
    node.runs("default")
    await node.sampler.step()
    await node.sampler.step()
    assert caplog.text.count("This is a mistake in llamaproxy") == 1


# --- Minutes and hours ---------------------------------------------------------------------------------


def seconds(name, begin, count, **figures):
    sample_record.write("local", {name: [(begin + number, figures) for number in range(count)]})


async def test_minutes_and_hours_are_summed_once_they_are_over(node):
    def told():
        seconds("default", START, 7200, generated=40.0)
        for _ in range(13):  # a few at a time
            sample_record.roll_up("local", START + 7230)

    await db(told)
    assert len(await db(rows, MINUTE)) == 120
    assert await db(rows, HOUR) == [("default", 0), ("default", 3600)]
    (point, _) = await db(sample_record.points_since, "default", HOUR, START)
    assert tuple(point.figures["generated"]) == (40.0, 40.0)


async def test_a_sum_goes_on_where_the_last_one_ended(node):
    def told():
        for minute in range(5):
            seconds("default", START + 60 * minute, 60, cpu=float(minute))
            sample_record.roll_up("local", START + 60 * minute + 75)

    await db(told)
    points = await db(sample_record.points_since, "default", MINUTE, START)
    assert [point.figures["cpu"].most for point in points] == [0.0, 1.0, 2.0, 3.0, 4.0]


async def test_a_long_time_without_samples_holds_up_no_sums(node):
    def told():
        seconds("default", START, 60, cpu=1.0)
        sample_record.roll_up("local", START + 75)
        seconds("default", START + 3000, 60, cpu=2.0)
        for _ in range(2):
            sample_record.roll_up("local", START + 3075)

    await db(told)
    assert [at for _, at in await db(rows, MINUTE)] == [0, 60, 120, 3000]


@pytest.mark.parametrize(("step", "kept"), KEPT.items())
async def test_rows_that_are_too_old_are_deleted(node, step, kept):
    def told():
        server = make_server("coder")
        for at in (START - kept - 2 * step, START - kept + 2 * step, START + 2 * HOUR):
            Sample.objects.create(server=server, step=step, at=at, figures={})
        sample_record.roll_up("local", START)

    await db(told)
    assert ("coder", 2 * step - kept) in await db(rows, step)
    assert len([row for row in await db(rows, step) if row[0] == "coder"]) == 1


async def test_other_nodes_prune_their_own(node):
    def told():
        server = make_server("far", node="elsewhere")
        Sample.objects.create(server=server, step=SECOND, at=START - 9000, figures={})
        sample_record.roll_up("local", START)

    await db(told)
    assert await db(rows, SECOND) == [("far", -9000)]


def test_a_batch_is_one_insert_however_many_servers_it_tells_of():
    for number in range(30):
        make_server(f"s{number}")
    batch = {f"s{number}": [(START + at, {"cpu": 1.0}) for at in range(15)] for number in range(30)}
    with CaptureQueriesContext(connection) as asked:
        sample_record.write("local", batch)
    assert len([query for query in asked.captured_queries if query["sql"].startswith("INSERT")]) == 1
