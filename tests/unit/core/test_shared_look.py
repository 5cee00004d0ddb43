"""A look at the whole machine: who may take the result of one that others asked for."""

from __future__ import annotations

import pytest

from supervisor_app.core.machine.shared_look import SharedLook


class Machine:
    """A clock, and a machine that is looked at."""

    def __init__(self):
        self.now = 5.0
        self.looks = 0
        self.look = SharedLook(self.see, clock=lambda: self.now)

    def see(self):
        self.looks += 1
        return self.looks


@pytest.fixture
def machine():
    return Machine()


def test_all_who_ask_at_the_moment_of_a_look_share_it(machine):
    assert [machine.look.get() for _ in range(150)] == [1] * 150


def test_a_look_that_began_before_the_question_does_not_do(machine):
    machine.look.get()
    machine.now += 0.001
    assert machine.look.get() == 2


def test_an_older_look_does_for_whoever_says_so(machine):
    machine.look.get()
    machine.now += 1
    assert machine.look.get(max_age=1) == 1
    assert machine.look.get(max_age=0.5) == 2


def test_a_look_that_fails_is_taken_again(machine):
    def fail():
        raise OSError("no descriptor")

    machine.look = SharedLook(fail, clock=lambda: machine.now)
    for _ in range(2):
        with pytest.raises(OSError, match="no descriptor"):
            machine.look.get()
