"""Items of the palette: `supervisor_app.pages.presenters.palette`."""

from __future__ import annotations

import pytest

from supervisor_app.core.status import Status
from supervisor_app.pages.presenters.palette import Known, items_of
from supervisor_app.web.rights import Right, Role

CHAT = Known(name="chat", status=Status.READY, word="Ready")


def labels(*servers, rights=frozenset(Right)):
    return [item["label"] for item in items_of(servers, rights)]


def test_a_visitor_is_offered_servers_and_settings_but_no_action():
    items = items_of([CHAT], {Right.READ})
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
def test_operators_are_offered_the_actions_that_fit_the_state(status, verbs):
    items = items_of([Known(name="chat", status=status, word="")], {Right.OPERATE})
    assert {item["verb"] for item in items if "post" in item} == verbs


def test_an_interruption_comes_with_its_question():
    questions = {item["verb"]: item["ask"] for item in items_of([CHAT], {Right.OPERATE}) if "post" in item}
    assert all("may finish first" in question for question in questions.values())


def test_viewers_find_the_tabs_of_each_server_that_they_may_open():
    found = labels(CHAT, rights=Role.VIEWER.rights)
    assert "chat: History" in found
    assert "chat: Config" not in found
    assert "chat: Config" in labels(CHAT)


def test_pages_that_are_not_there_are_not_offered(monkeypatch):
    monkeypatch.setattr("supervisor_app.pages.presenters.palette.TABS", (("Nothing", "nowhere", Right.LOOK),))
    assert not [label for label in labels(CHAT) if "Nothing" in label]
