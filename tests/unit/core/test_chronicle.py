"""Snapshots of a server that is looked at: most looks at it change nothing that anybody is told."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import pytest

from supervisor_app.core.changes import Change, Remembered
from supervisor_app.core.chronicle import Chronicle
from supervisor_app.core.lifecycle import Phase, State
from supervisor_app.core.lifecycle.state import UNSEEN
from supervisor_app.core.status import Model, Progress, Status
from supervisor_app.core.testing import FakeClock, make_config
from supervisor_app.core.watch.watchdog import Watch

SERVES = State(
    status=Status.READY, phase=Phase.SERVING, models=(Model(id="m", name="m"),), loading=True, memory=2**40
)


WAITS = State(status=Status.STARTING, phase=Phase.WAITING, checks=3)


@dataclass
class Submitted:
    """Keeps what a recorder is given."""

    changes: list[Change] = field(default_factory=list)

    def submit(self, change):
        self.changes.append(change)


def told(*states):
    recorder = Submitted()
    chronicle = Chronicle("default", Remembered(), clock=FakeClock(), recorder=recorder)
    for state in states:
        chronicle.record(state, make_config(), generation=1, has_process=True, endpoint=None, progress=None)
    return [replace(change.snapshot, version=0) for change in recorder.changes]


@pytest.mark.parametrize("name", sorted(UNSEEN))
def test_a_deadline_or_a_look_changes_no_snapshot(name):
    other = replace(SERVES, **{name: Watch(busy=True) if name == "watch" else 12.5})
    assert other != SERVES
    assert told(SERVES, other) == told(SERVES) == told(other)


@pytest.mark.parametrize(
    "change",
    [{"misses": 1}, {"loading": False}, {"draining": "It makes room."}, {"context": "Restored."}],
    ids=lambda change: next(iter(change)),
)
def test_a_change_that_people_see_is_told_each_time(change):
    other = replace(SERVES, **change)
    assert len(told(SERVES, other, SERVES)) == 3


def test_a_look_at_a_server_that_starts_changes_no_snapshot():
    assert len(told(WAITS, replace(WAITS, checks=4, probe_at=12.5), replace(WAITS, checks=5))) == 1


def test_a_server_that_starts_tells_how_far_its_load_is():
    recorder = Submitted()
    chronicle = Chronicle("default", Remembered(), clock=FakeClock(), recorder=recorder)
    for loaded in (1, 1, 2):
        progress = Progress(loaded=loaded, total=9, eta_seconds=None)
        chronicle.record(
            WAITS, make_config(), generation=1, has_process=True, endpoint=None, progress=progress
        )
    assert [change.snapshot.progress.loaded for change in recorder.changes] == [1, 2]


def test_every_other_field_is_compared():
    names = [each.name for each in fields(State) if each.name not in UNSEEN]
    assert SERVES.shown == tuple(getattr(SERVES, name) for name in names)
