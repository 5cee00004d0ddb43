"""The states of a download as a table."""

from __future__ import annotations

import pytest

from supervisor_app.modelfiles.steps import chosen_to_start, following, wishes_of

RUN, PAUSE, CANCEL = "run", "pause", "cancel"
TABLE = {
    # state: with run, pause, cancel; the same where a new try is wanted
    "wanted": ("wanted", "paused", "cancelled", "wanted", "paused", "cancelled"),
    "running": ("running", "paused", "cancelled", "running", "paused", "cancelled"),
    "paused": ("wanted", "paused", "cancelled", "wanted", "paused", "cancelled"),
    "failed": ("failed", "failed", "cancelled", "wanted", "failed", "cancelled"),
    "cancelled": ("cancelled", "cancelled", "cancelled", "wanted", "cancelled", "cancelled"),
    "done": ("done", "done", "done", "done", "done", "done"),
}
CELLS = [
    (state, desired, is_again, row[number + 3 * is_again])
    for state, row in TABLE.items()
    for is_again in (False, True)
    for number, desired in enumerate((RUN, PAUSE, CANCEL))
]


@pytest.mark.parametrize(("state", "desired", "is_again", "after"), CELLS)
def test_a_state_follows_from_what_people_want(state, desired, is_again, after):
    assert following(state, desired, is_again=is_again, has_process=True) == after


def test_a_download_whose_process_is_gone_waits_for_another():
    assert following("running", RUN, is_again=False, has_process=False) == "wanted"


@pytest.mark.parametrize(
    ("running", "most", "started"), [(0, 1, [7]), (1, 1, []), (1, 3, [7, 8]), (5, 2, []), (0, 9, [7, 8, 9])]
)
def test_downloads_start_in_their_order_as_far_as_there_is_a_place(running, most, started):
    assert chosen_to_start([7, 8, 9], running, most) == started


@pytest.mark.parametrize(
    ("state", "wishes"),
    [
        ("running", ["pause", "cancel"]),
        ("paused", ["resume", "cancel"]),
        ("failed", ["cancel", "retry"]),
        ("cancelled", ["retry"]),
        ("done", []),
    ],
)
def test_a_page_offers_what_can_be_done(state, wishes):
    assert wishes_of(state) == wishes
