"""News that come too often for a page: `supervisor_app.fleet.pace`."""

from __future__ import annotations

from supervisor_app.fleet.pace import Paced


def test_the_first_goes_at_once_and_of_those_that_follow_the_newest_after_the_pause():
    paced = Paced[int](0.25)
    told = []
    for number in range(100):
        now = number / 100
        paced.put("chat", number)
        told += paced.due(now)
    assert told == [0, 25, 50, 75]


def test_news_of_one_name_do_not_wait_for_those_of_another():
    paced = Paced[str](0.25)
    paced.put("chat", "1")
    assert paced.due(10.0) == ["1"]
    paced.put("chat", "2")
    paced.put("embed", "1")
    assert paced.due(10.1) == ["1"]
    assert paced.due(10.3) == ["2"]


def test_the_wait_ends_when_something_is_due():
    paced = Paced[str](0.25)
    assert paced.wait(10.0) is None
    paced.put("chat", "1")
    assert paced.wait(10.0) == 0.0
    paced.due(10.0)
    assert paced.wait(10.0) is None
    paced.put("chat", "2")
    assert paced.wait(10.1) == 0.25 - (10.1 - 10.0)


def test_news_that_are_held_can_be_asked_for_before_its_time_or_forgotten():
    paced = Paced[str](0.25)
    paced.put("chat", "1")
    paced.due(10.0)
    paced.put("chat", "2")
    paced.forget("chat")
    assert paced.due(10.1, held_too=True) == []
    paced.put("chat", "3")
    assert paced.due(10.1, held_too=True) == ["3"]


def test_pages_are_told_again_after_an_early_look():
    paced = Paced[str](0.25)
    paced.put("chat", "1")
    paced.due(10.1, held_too=True)
    paced.put("chat", "2")
    assert paced.due(10.2) == []
    assert paced.due(10.4) == ["2"]


def test_news_that_matter_wait_for_no_pause():
    paced = Paced[str](0.25)
    paced.put("chat", "ready")
    assert paced.due(10.0) == ["ready"]
    paced.put("chat", "crashed", at_once=True)
    assert paced.wait(10.1) == 0.0
    assert paced.due(10.1) == ["crashed"]
    paced.put("chat", "starting")
    assert paced.due(10.2) == []
