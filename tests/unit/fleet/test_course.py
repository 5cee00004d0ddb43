"""The figures of one server, from looks at it and from what gateways know."""

from __future__ import annotations

from supervisor_app.core.sightings import MemorySample, Slot
from supervisor_app.core.vitals import Vitals
from supervisor_app.fleet.course import Course, Passed

NOTHING = Passed()
GIB = 2**30


def vitals(at=1000.0, **fields):
    return Vitals(at=at, **fields)


def slot(**fields):
    return Slot(id=0, task=1, size=2048, **fields)


def figures_of(*looks):
    course = Course()
    for number, (seen, passed) in enumerate(looks):
        course.take(1000.0 + number, seen, passed)
    return course.samples[-1][1]


def test_figures_that_nobody_knows_are_left_out():
    assert figures_of((vitals(), NOTHING)) == {
        "generated": 0.0,
        "prefilled": 0.0,
        "in_flight": 0,
        "waiting": 0,
    }


def test_cpu_and_memory_are_those_of_the_last_look():
    memory = MemorySample(at=1000.0, anon=3 * GIB, swap=GIB, file=7 * GIB)
    figures = figures_of((vitals(cores=1.5, memory=memory, gpus={"GPU-0": 9 * GIB}), NOTHING))
    assert figures["cpu"] == 1.5
    assert figures["memory:host"] == 4 * GIB
    assert figures["files"] == 7 * GIB
    assert figures["memory:GPU-0"] == 9 * GIB


def test_the_context_is_that_of_all_slots_idle_ones_too():
    slots = (slot(works=True, used=500), slot(used=100))
    figures = figures_of((vitals(slots=slots), NOTHING))
    assert (figures["context"], figures["context_size"], figures["in_flight"]) == (600, 4096, 1)


def test_a_context_that_slots_share_counts_once():
    slots = (slot(works=True, used=300, shared=2048), slot(used=64, shared=2048))
    figures = figures_of((vitals(slots=slots), NOTHING))
    assert (figures["context"], figures["context_size"]) == (364, 2048)


def test_speeds_follow_the_slots_and_the_records_of_what_has_left_them():
    before, after = (
        Passed(generated=500, prompt=900, cached=100),
        Passed(generated=600, prompt=1200, cached=300),
    )
    working = slot(works=True, processed=100, decoded=80)
    looks = [
        (vitals(1000.0, slots=(slot(),)), before),
        (vitals(1001.0, slots=(working,)), before),
        (vitals(1002.0, slots=(slot(),)), after),
    ]
    figures = figures_of(*looks)
    assert (figures["generated"], figures["prefilled"]) == (50.0, 50.0)


def test_a_request_that_is_on_record_before_the_next_look_counts_once():
    working, ended = slot(works=True, decoded=80), Passed(generated=90)
    looks = [
        (vitals(1000.0, slots=(slot(),)), NOTHING),
        (vitals(1001.0, slots=(working,)), NOTHING),
        (vitals(1001.0, slots=(working,)), ended),
    ]
    assert figures_of(*looks)["generated"] == 80.0
    looks += [(vitals(1003.0, slots=(slot(),)), ended)]
    assert figures_of(*looks)["generated"] == 30.0


def test_a_server_that_does_not_tell_its_slots_is_seen_by_the_gateways():
    looks = [(vitals(), Passed(streaming=0)), (vitals(), Passed(in_flight=2, waiting=1, streaming=30))]
    figures = figures_of(*looks)
    assert (figures["generated"], figures["in_flight"], figures["waiting"]) == (30.0, 2, 1)


def test_figures_of_answers_are_means_of_those_that_ended_meanwhile():
    before = Passed(first_tokens=10, first_token_ms=5000.0, later_tokens=100, later_token_ms=9000.0)
    now = Passed(
        prompt=1000,
        cached=250,
        first_tokens=12,
        first_token_ms=5300.0,
        later_tokens=150,
        later_token_ms=10000.0,
    )
    figures = figures_of((vitals(), before), (vitals(), now))
    assert (figures["ttft"], figures["itl"], figures["cached"]) == (150.0, 20.0, 0.25)


def test_a_second_has_one_sample():
    course = Course()
    for at in (1000.1, 1000.9, 1002.0):
        course.take(at, vitals(cores=2.0), NOTHING)
    assert [at for at, _ in course.samples] == [1000, 1002]


def test_a_course_tells_its_slots_and_whether_they_work():
    course = Course()
    course.take(1000.0, vitals(slots=(slot(works=True, decoded=5, used=9),)), NOTHING)
    assert course.works
    assert course.pulse() == [
        {
            "id": 0,
            "task": 1,
            "works": True,
            "cached": 0,
            "processed": 0,
            "decoded": 5,
            "used": 9,
            "size": 2048,
            "shared": 0,
        }
    ]
