"""Who goes next to a server: by arrival, so many at once, and a suspect alone."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_app.gateway.servers.gate import Gate, QueueFullError
from supervisor_app.gateway.servers.turns import NEWCOMER

arrivals = count()


class Visitor:
    """Remembers how often it was let in."""

    insists = False
    key = None
    turn = NEWCOMER
    since = 1.0

    def __init__(self, *, solo=False, needs_slot=True, model="", owner=0):
        self.owner = owner
        self.was_displaced = False
        self.arrival = next(arrivals)
        self.solo = solo
        self.needs_slot = needs_slot
        self.wakes = self.counts_as_use = True
        self.model = model
        self.times = 0

    def admitted(self):
        self.times += 1

    def displaced(self):
        self.was_displaced = True

    def server_changed(self): ...

    def server_ended(self): ...


def open_gate(**options):
    gate = Gate(**options)
    gate.is_open = True
    return gate


def visitors(number):
    return [Visitor() for _ in range(number)]


def enter(gate, *guests):
    """Whether each went in at once."""
    return [gate.enter(guest) for guest in guests]


def test_a_closed_gate_lets_nobody_in_until_it_opens():
    gate, (first, second) = Gate(), visitors(2)
    assert enter(gate, first, second) == [False, False]
    gate.let_in()
    assert not gate.inside
    gate.is_open = True
    gate.let_in()
    assert gate.inside == {first, second}
    assert (first.times, second.times) == (1, 1)


class Counted(Visitor):
    """Counts how often a gate looks at any of them."""

    looks = 0

    def __getattribute__(self, name):
        Counted.looks += name in ("turn", "arrival", "owner", "needs_slot", "solo")
        return super().__getattribute__(name)


@pytest.mark.parametrize("owners", [1, 1000])
@pytest.mark.parametrize("leave", ["in turn", "tired"])
def test_twice_as_many_that_wait_cost_about_twice_as_much(owners, leave):
    def looks(number):
        gate = Gate(capacity=2, max_waiting=number)
        crowd = [Counted(owner=at % owners, needs_slot=at % 10 > 0) for at in range(number)]
        Counted.looks = 0
        enter(gate, *crowd)
        gate.is_open = leave == "in turn"
        gate.let_in()
        for each in crowd if leave == "tired" else ():
            gate.leave(each)
        while gate.in_flight:
            gate.leave(next(iter(gate.in_flight)))
        assert not gate.waiting
        return Counted.looks

    assert looks(800) < 2.5 * looks(400)


def test_a_request_without_a_slot_takes_no_place_and_waits_for_none():
    gate, (first, second) = open_gate(capacity=1), visitors(2)
    quick, late = (Visitor(needs_slot=False) for _ in range(2))
    assert enter(gate, quick, first, second, late) == [True, True, False, True]
    assert gate.in_flight == {first, quick, late}
    gate.leave(quick)
    assert second.times == 0
    gate.leave(first)
    assert second.times == 1


def test_while_the_gate_is_closed_who_needs_no_slot_waits_too():
    gate, (first, second) = Gate(capacity=1), visitors(2)
    quick = Visitor(needs_slot=False)
    assert enter(gate, first, second, quick) == [False, False, False]
    gate.is_open = True
    gate.let_in()
    assert gate.in_flight == {first, quick}
    gate.is_open = False
    gate.return_to_queue(quick)
    assert (gate.waiting, gate.beside) == ([second, quick], set())


def test_a_suspect_goes_alone_also_when_it_needs_no_slot():
    gate, (first,) = open_gate(), visitors(1)
    suspect = Visitor(needs_slot=False, solo=True)
    assert enter(gate, first, suspect) == [True, False]
    gate.leave(first)
    assert (suspect.times, gate.inside) == (1, {suspect})


class Suspect(Visitor):
    """It turns out to be one at its turn; then it wants to be alone."""

    def __init__(self, gate, **options):
        super().__init__(**options)
        self.gate = gate
        self.went = False

    def admitted(self):
        self.solo = True
        self.went = self.gate.is_alone(self)
        if not self.went:
            self.gate.return_to_queue(self)


@pytest.mark.parametrize("needs_slot", [True, False])
def test_a_request_that_becomes_a_suspect_at_its_turn_waits_for_those_inside(needs_slot):
    gate, (first,) = open_gate(), visitors(1)
    suspect = Suspect(gate, needs_slot=needs_slot)
    gate.enter(first)
    gate.is_open = False
    gate.enter(suspect)
    gate.is_open = True
    gate.let_in()
    assert (suspect.went, gate.in_flight, gate.waiting) == (False, {first}, [suspect])
    gate.leave(first)
    assert (suspect.went, gate.inside) == (True, {suspect})


def test_there_is_room_for_who_could_go_at_once():
    gate, (first, second, third) = open_gate(capacity=1), visitors(3)
    assert gate.has_room_for(first)
    enter(gate, first)
    assert not gate.has_room_for(second)
    assert gate.has_room_for(Visitor(needs_slot=False))
    enter(gate, second)
    gate.capacity = 3
    assert not gate.has_room_for(third)  # somebody is before it
    gate.let_in()
    assert gate.has_room_for(third)
    assert not gate.has_room_for(Visitor(solo=True))
    gate.is_open = False
    assert not gate.has_room_for(Visitor(needs_slot=False))


def test_without_a_limit_all_go_at_once():
    gate, guests = open_gate(), visitors(500)
    assert all(enter(gate, *guests))
    assert len(gate.inside) == 500


def test_beyond_the_capacity_requests_follow_in_order_of_arrival():
    gate, (a, b, c, d) = open_gate(capacity=2), visitors(4)
    assert enter(gate, a, b, c, d) == [True, True, False, False]
    gate.leave(b)
    assert gate.inside == {a, c}
    gate.leave(a)
    assert gate.inside == {c, d}
    assert (c.times, d.times) == (1, 1)


def test_nobody_overtakes_those_who_wait():
    gate, (a, b, c) = open_gate(capacity=1), visitors(3)
    enter(gate, a, b)
    gate.capacity = 2  # there is room now, but nobody has been let in yet
    assert not gate.enter(c)
    gate.let_in()
    assert gate.inside == {a, b}


def test_an_earlier_request_goes_earlier_also_after_a_wait_elsewhere():
    gate, (old, new, last) = Gate(), visitors(3)
    enter(gate, new, last, old)
    assert gate.waiting == [old, new, last]


def test_requests_whose_server_died_go_first_in_their_old_order():
    gate, (a, b, c, d) = open_gate(capacity=2), visitors(4)
    enter(gate, a, b, c, d)
    gate.is_open = False
    for guest in (b, a):
        gate.return_to_queue(guest)
    assert gate.waiting == [a, b, c, d]
    assert not gate.inside
    gate.is_open = True
    gate.let_in()
    assert gate.inside == {a, b}


def test_the_queue_is_bounded():
    gate, (a, b, c, d) = open_gate(capacity=1, max_waiting=2), visitors(4)
    enter(gate, a, b, c)
    with pytest.raises(QueueFullError):
        gate.enter(d)
    assert gate.waiting == [b, c]
    gate.leave(c)
    assert not gate.enter(d)


def test_with_a_queue_of_none_nobody_waits():
    gate, (a, b) = open_gate(capacity=1, max_waiting=0), visitors(2)
    assert gate.enter(a)
    with pytest.raises(QueueFullError):
        gate.enter(b)


def test_a_request_that_was_let_in_before_finds_room_in_a_full_queue():
    gate, (a, b) = open_gate(capacity=1, max_waiting=1), visitors(2)
    enter(gate, a, b)
    gate.is_open = False
    gate.return_to_queue(a)
    assert gate.waiting == [a, b]


def test_a_request_that_leaves_the_queue_is_never_let_in():
    gate, (a, b, c) = open_gate(capacity=1), visitors(3)
    enter(gate, a, b, c)
    gate.leave(b)
    gate.leave(a)
    assert gate.inside == {c}
    assert b.times == 0


def test_a_request_that_leaves_twice_removes_no_other():
    gate, (a, b, c) = open_gate(capacity=1), visitors(3)
    enter(gate, a, b, c)
    gate.leave(a)
    gate.leave(a)
    assert gate.inside == {b}
    assert gate.waiting == [c]


def test_a_suspect_waits_until_all_others_have_left():
    gate, (a, b) = open_gate(), visitors(2)
    suspect, later = Visitor(solo=True), Visitor()
    assert enter(gate, a, b, suspect, later) == [True, True, False, False]
    gate.leave(a)
    assert suspect.times == 0
    gate.leave(b)
    assert gate.inside == {suspect}
    assert later.times == 0
    gate.leave(suspect)
    assert gate.inside == {later}


def test_nobody_joins_a_suspect():
    gate, suspect, other = open_gate(), Visitor(solo=True), Visitor()
    assert enter(gate, suspect, other) == [True, False]


def test_any_number_may_fail_as_soon_as_they_are_let_in():
    class Failing(Visitor):
        def admitted(self):
            super().admitted()
            gate.leave(self)

    gate, guests = Gate(max_waiting=1200), [Failing() for _ in range(1200)]
    enter(gate, *guests)
    gate.is_open = True
    gate.let_in()
    assert {guest.times for guest in guests} == {1}
    assert not gate.inside
    assert not gate.waiting


def test_a_request_that_fails_at_once_makes_room_for_the_next():
    class Refused(Visitor):
        def admitted(self):
            super().admitted()
            gate.leave(self)

    gate, (a, last) = open_gate(capacity=1), visitors(2)
    refused = [Refused() for _ in range(3)]
    refused[0].arrival, refused[1].arrival, refused[2].arrival = a.arrival, a.arrival, a.arrival
    enter(gate, a, *refused, last)
    gate.leave(a)
    assert [guest.times for guest in refused] == [1, 1, 1]
    assert gate.inside == {last}


ACTS = st.one_of(
    st.tuples(st.just("enter"), st.tuples(st.booleans(), st.booleans())),
    st.tuples(st.just("leave"), st.integers(0, 20)),
    st.tuples(st.just("crash"), st.booleans()),
    st.tuples(st.just("open"), st.none()),
    st.tuples(st.just("close"), st.none()),
    st.tuples(st.just("resize"), st.integers(0, 3)),
)


class Story:
    """A gate, all who came, and what must hold whatever they did."""

    def __init__(self):
        self.gate = Gate(max_waiting=6)
        self.here = []

    def act(self, what, how):
        getattr(self, what)(how)
        self.check()

    def enter(self, kind):
        solo, needs_slot = kind
        guest = Visitor(solo=solo, needs_slot=needs_slot)
        first_is_solo = any(each.solo for each in [*self.gate.waiting[:1], *self.gate.inside])
        goes_beside = self.gate.is_open and not (solo or needs_slot or first_is_solo)
        if len(self.gate.waiting) >= 6 and not goes_beside:
            with pytest.raises(QueueFullError):
                self.gate.enter(guest)
            return
        guest.times += self.gate.enter(guest)
        self.here.append(guest)

    def leave(self, number):
        if self.here:
            self.gate.leave(self.here.pop(number % len(self.here)))

    def crash(self, suspected):
        """All who were inside come back; perhaps they are suspected now."""
        self.gate.is_open = False
        for guest in self.gate.in_flight:
            guest.solo = suspected
            self.gate.return_to_queue(guest)
            guest.times = 0

    def open(self, _):
        self.gate.is_open = True
        self.gate.let_in()

    def close(self, _):
        self.gate.is_open = False

    def resize(self, capacity):
        """A smaller one throws nobody out."""
        if not (capacity and len(self.gate.inside) > capacity):
            self.gate.capacity = capacity
            self.gate.let_in()

    def check(self):
        inside, beside, waiting = self.gate.inside, self.gate.beside, self.gate.waiting
        assert len(inside) + len(beside) + len(waiting) == len(self.here)
        assert inside | beside | set(waiting) == set(self.here)
        assert [guest.arrival for guest in waiting] == sorted(guest.arrival for guest in waiting)
        assert all(guest.times == 1 for guest in inside | beside)
        assert not any(guest.needs_slot or guest.solo for guest in beside)
        assert all(guest.times == 0 for guest in waiting)
        assert len(inside) == 1 or not any(guest.solo for guest in inside)
        assert len(inside) <= (self.gate.capacity or len(inside))
        if self.gate.is_open and waiting:
            alone = any(guest.solo for guest in inside)
            assert alone or waiting[0].solo or all(guest.needs_slot or guest.solo for guest in waiting)
            full = len(inside) == self.gate.capacity
            assert full or alone or (waiting[0].solo and (inside or beside))


@settings(deadline=None)
@given(st.lists(ACTS, max_size=40))
def test_order_limit_and_solitude_hold_and_nobody_waits_for_nothing(acts):
    story = Story()
    for what, how in acts:
        story.act(what, how)
