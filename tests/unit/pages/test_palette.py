"""Items of the palette: `supervisor_app.pages.presenters.palette`."""

from __future__ import annotations

import pytest

from supervisor_app.core.status import Status
from supervisor_app.pages.presenters.palette import Known, items_of

CHAT = Known(name="chat", status=Status.READY, word="Ready")


def labels(*servers, is_staff=True):
    return [item["label"] for item in items_of(servers, is_staff=is_staff)]


def test_a_visitor_is_offered_servers_and_settings_but_no_action():
    items = items_of([CHAT], is_staff=False)
    assert [item["label"] for item in items if "href" in item] == ["chat", "Overview", "Alerts"]
    assert not [item for item in items if "post" in item]


@pytest.mark.parametrize(
    ("status", "verbs"),
    [
        (Status.INITIAL, {"Start"}),
        (Status.STARTING, {"Restart", "Stop"}),
        (Status.READY, {"Restart", "Stop"}),
        (Status.CRASHED, {"Start", "Stop"}),
        (Status.ERROR, {"Start", "Stop"}),
        (Status.STOPPING, set()),
    ],
)
def test_staff_are_offered_the_actions_that_fit_the_state(status, verbs):
    items = items_of([Known(name="chat", status=status, word="")], is_staff=True)
    assert {item["verb"] for item in items if "post" in item} == verbs


def test_an_interruption_comes_with_its_question():
    questions = {item["verb"]: item["ask"] for item in items_of([CHAT], is_staff=True) if "post" in item}
    assert all("cut off" in question for question in questions.values())


def test_staff_find_the_tabs_of_each_server():
    assert "chat: History" in labels(CHAT)


def test_pages_that_are_not_there_are_not_offered(monkeypatch):
    monkeypatch.setattr("supervisor_app.pages.presenters.palette.TABS", (("Nothing", "nowhere"),))
    assert not [label for label in labels(CHAT) if "Nothing" in label]
