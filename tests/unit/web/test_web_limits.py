"""What the web listener takes: an allowance, places for visitors."""

from __future__ import annotations

import pytest

from supervisor_app.web.limits import Allowance, WebLimits
from supervisor_app.web.visitors import Visitors


def test_an_allowance_is_used_up_and_fills_again():
    allowance = Allowance(3, 2.0, now=10.0)
    assert [allowance.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert allowance.take(10.5)
    assert not allowance.take(10.5)


def test_an_allowance_holds_no_more_than_its_size():
    allowance = Allowance(2, 1.0, now=0.0)
    assert [allowance.take(1000.0) for _ in range(3)] == [True, True, False]


def test_an_allowance_refuses_what_is_larger_than_what_is_left_and_keeps_it():
    allowance = Allowance(100, 1.0, now=0.0)
    assert not allowance.take(0.0, 101)
    assert allowance.take(0.0, 100)


class Guest:
    def __init__(self, visitors):
        self.visitors = visitors
        self.is_gone = False

    def give_way(self):
        self.is_gone = True


@pytest.fixture
def visitors():
    return Visitors(WebLimits(connections=4, sockets=2))


def come(visitors):
    assert visitors.make_room()
    guest = Guest(visitors)
    visitors.join(guest)
    return guest


def test_where_all_places_are_taken_the_one_that_is_idle_longest_goes(visitors):
    first, second, *_ = (come(visitors) for _ in range(4))
    visitors.mark_busy(first)
    visitors.mark_idle(first)
    come(visitors)
    assert (first.is_gone, second.is_gone) == (False, True)
    assert len(visitors) == 4


def test_a_connection_that_is_kept_after_an_answer_outlasts_those_that_asked_nothing(visitors):
    kept = come(visitors)
    visitors.mark_busy(kept)
    visitors.mark_idle(kept)
    strangers = [come(visitors) for _ in range(10)]
    assert not kept.is_gone
    assert [stranger.is_gone for stranger in strangers] == [True] * 7 + [False] * 3


def test_answered_visitors_leave_half_of_the_places_to_newcomers(visitors):
    kept = [come(visitors) for _ in range(4)]
    for each in kept:
        visitors.mark_busy(each)
        visitors.mark_idle(each)
    newcomer, second, third = (come(visitors) for _ in range(3))
    assert [each.is_gone for each in kept] == [True, True, False, False]
    assert [newcomer.is_gone, second.is_gone, third.is_gone] == [True, False, False]


def test_where_all_were_answered_the_one_that_is_idle_longest_goes(visitors):
    guests = [come(visitors) for _ in range(4)]
    for guest in guests:
        visitors.mark_busy(guest)
    for guest in reversed(guests):
        visitors.mark_idle(guest)
    come(visitors)
    assert [guest.is_gone for guest in guests] == [False, False, False, True]


def test_a_visitor_that_is_being_answered_does_not_go(visitors):
    guests = [come(visitors) for _ in range(4)]
    for guest in guests:
        visitors.mark_busy(guest)
    assert not visitors.make_room()
    assert not any(guest.is_gone for guest in guests)
    visitors.leave(guests[0])
    assert visitors.make_room()


def test_a_visitor_that_has_left_takes_no_place_and_is_not_told_to_go(visitors):
    guest = come(visitors)
    visitors.leave(guest)
    visitors.leave(guest)
    visitors.mark_idle(guest)
    assert len(visitors) == 0
    for _ in range(5):
        come(visitors)
    assert not guest.is_gone


def test_sockets_take_half_of_the_places_at_most(visitors):
    for _ in range(2):
        assert visitors.has_room_for_socket
        visitors.join_as_socket(Guest(visitors))
    assert not visitors.has_room_for_socket
    come(visitors)
    come(visitors)
    assert visitors.make_room()


def test_few_connections_leave_room_for_one_socket():
    assert Visitors(WebLimits(connections=1)).has_room_for_socket
