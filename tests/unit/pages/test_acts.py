"""Acts that destroy ask first: each act of a page has a question, or stands here with why it needs none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supervisor_app.core.status import Status
from supervisor_app.pages.presenters.palette import Known, items_of
from supervisor_app.web.rights import Right

TEMPLATES = Path(__file__).parents[3] / "templates"
TAG = re.compile(r"<\w+(?:\{%.*?%\}|\{\{.*?\}\}|\"[^\"]*\"|'[^']*'|[^>{\"'])*>", re.DOTALL)
ACTS = re.compile(r"\bhx-(?:post|put|patch|delete)=|\bmethod=\"post\"", re.IGNORECASE)
ADDRESS = re.compile(r"\b(?:hx-(?:post|put|patch|delete)|action)=\"([^\"]*(?:\{%.*?%\}[^\"]*)*)\"")
NAMED = re.compile(r"\{% url '([\w:-]+)'([^%]*)%\}(.*)")

NO_QUESTION = {
    "admin:alerts_alertchannel_test": "sends a message",
    "admin:logout": "the login brings back what was there",
    "begin-maintenance": "it mutes alerts until it is ended, in the same place",
    "change-channel": "a form with what is there now; its address stays unless another is written",
    "change-config": "the form shows first what changes; each version is kept and can be brought back",
    "change-key": "a form with what is there now: sent again, it is as before",
    "choose-status-servers": "a form with what is there now: sent again, it is as before",
    "control start": "adds a process",
    "control restart ?seamless=1": "the old process answers until the new one does: no request is cut off",
    "change-role": "a form with what is there now: given again, it is as before",
    "create-key": "adds a key",
    "create-server": "adds a server",
    "create-user": "adds an account",
    "download": "adds a file; it can be cancelled",
    "end-maintenance": "it is begun again in the same place",
    "login_link.html": "logs in",
    "mark-crash": "each mark has its opposite in the same place",
    "note-incident": "the form shows the note that is there; the audit keeps what was before",
    "preview-added": "changes nothing",
    "preview-config": "changes nothing",
    "question.html": "it is the question before an action of Django's admin",
    "restore-config": "each version is kept and can be brought back",
    "rollback": "each version is kept and can be brought back",
    "set_password.html": "asks for the old password, or sets the first one of a new user",
    "switch-channel": "it is switched on again in the same place",
    "switch-key": "switches on; switching off asks",
    "switch-user": "switches on; switching off asks",
    "test-channel": "sends a message",
    "unmute": "more is told than before; the page of crashes mutes again",
    "watch": "adds an alert",
}
"""Acts by the name of their address, with what is asked for; of those without an address the template."""


def acts_of(source: str, template: str) -> dict[str, bool]:
    """Return the acts of a template, and whether each place of it asks first."""
    found: dict[str, bool] = {}
    for tag in TAG.findall(source):
        if ACTS.search(tag):
            address = ADDRESS.search(tag)
            act = _name(address[1], source) if address else template
            found[act] = found.get(act, True) and "hx-confirm=" in tag
    return found


def _name(address: str, source: str) -> str:
    if variable := re.fullmatch(r"\{\{ (\w+) \}\}", address):
        given = re.search(rf"\{{% url [^%]* as {variable[1]} %\}}", source)
        assert given, f"{address} is given by no {{% url … as {variable[1]} %}}"
        address = given[0]
    named = NAMED.match(address)
    assert named, address
    words = re.findall(r"'([\w-]+)'", named[2])
    return " ".join(filter(None, (named[1], *words, named[3])))


def every_act() -> dict[str, bool]:
    found: dict[str, bool] = {}
    for path in sorted(TEMPLATES.rglob("*.html")):
        for act, asks in acts_of(path.read_text(), path.name).items():
            found[act] = found.get(act, True) and asks
    return found


@pytest.mark.parametrize(
    ("source", "acts"),
    [
        ("""<form method="post" action="{% url 'gone' name %}">""", {"gone": False}),
        ("""<form method="post" action="{% url 'gone' name %}" hx-confirm="Sure?">""", {"gone": True}),
        (
            """<b hx-delete="{% url 'wish' name 'stop' %}?now=1" hx-swap="none">""",
            {"wish stop ?now=1": False},
        ),
        ("""{% url 'mark' pk as here %}<form method="post" action="{{ here }}">""", {"mark": False}),
        ("""<form method="post">""", {"a.html": False}),
        ("""<form><b hx-get="{% url 'seen' %}">""", {}),
        (
            """<b {% if a > b %}hidden{% endif %} hx-post="{% url 'one' %}"><b hx-confirm="?">""",
            {"one": False},
        ),
    ],
)
def test_the_scan_finds_acts_and_whether_they_ask(source, acts):
    assert acts_of(source, "a.html") == acts


def test_an_act_asks_first_or_has_a_reason_not_to():
    silent = {act for act, asks in every_act().items() if not asks}
    assert silent - NO_QUESTION.keys() == set(), "add hx-confirm, or say in NO_QUESTION what undoes it"


def test_no_reason_is_left_of_an_act_that_asks_or_is_gone():
    assert {act for act, asks in every_act().items() if not asks} == set(NO_QUESTION)


@pytest.mark.parametrize("status", Status)
def test_an_act_of_the_palette_asks_first_unless_it_starts_a_server(status):
    items = items_of([Known(name="chat", status=status, word="")], {Right.OPERATE})
    assert [item["post"] for item in items if "post" in item and not item["ask"]] in (
        [],
        ["/servers/chat/start"],
    )
