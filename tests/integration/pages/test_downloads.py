"""Downloads on the page of models: who may ask, what is shown, what the buttons wish."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from supervisor_app.fleet.models import NodeLease
from supervisor_app.library.hub.repository import Remote, listed
from supervisor_app.modelfiles.asking import NoAnswerError
from supervisor_app.modelfiles.models import Download, State
from supervisor_app.pages import downloads as pages

pytestmark = pytest.mark.django_db
HTMX = {"HTTP_HX_REQUEST": "true"}
GIB = 2**30
LISTING = listed(
    "o/r", "c", [Remote(path="a-Q4_K_M.gguf", size=5 * GIB), Remote(path="a-Q8_0.gguf", size=90 * GIB)]
)
WANTED = {"repository": "o/r", "label": "Q4_K_M", "node": "gpu-1"}


@pytest.fixture(autouse=True)
def node():
    seen = {"id": "host", "name": "Host", "total": 64 * GIB, "free": 60 * GIB, "ours": 0, "note": ""}
    return NodeLease.objects.create(
        node="gpu-1",
        holder="1 0 elsewhere gpu-1",
        token="t",
        renewed_at=timezone.now(),
        devices={"devices": [seen], "problems": []},
    )


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(pages, "look_up", lambda said: LISTING)


def a_download(state=State.RUNNING, **fields) -> Download:
    told = {"node": "gpu-1", "repository": "o/r", "chosen": "Q4_K_M", "asked_at": timezone.now()} | fields
    return Download.objects.create(state=state, **told)


@pytest.mark.parametrize("path", ["/models/downloads", "/models/repository"])
def test_the_parts_are_for_staff_alone(path, client, person_client, staff_client, hub):
    assert client.get(path).status_code == 302
    assert person_client.get(path).status_code == 403
    assert client.get(path, **HTMX).status_code == 286
    assert staff_client.get(path, **HTMX).status_code == 200
    assert staff_client.get(path).url == "/models/"


def test_only_staff_may_download_and_change(client, person_client, staff_client):
    row = a_download()
    for stranger in (client, person_client):
        assert stranger.post("/models/download", WANTED).status_code == 403
        assert stranger.post(f"/models/downloads/{row.pk}/cancel").status_code == 403
    for path in ("/models/download", f"/models/downloads/{row.pk}/cancel"):
        assert staff_client.get(path).status_code == 405
    row.refresh_from_db()
    assert (Download.objects.count(), row.desired) == (1, "run")


def test_a_repository_is_shown_with_sizes_and_whether_they_fit(staff_client, hub):
    page = staff_client.get("/models/repository?repository=o/r", **HTMX).content.decode()
    assert page.index("Q4_K_M") < page.index("Q8_0")
    assert "The host can have" in page
    assert "does not fit" in page
    assert "5.0 GiB" in page
    assert 'value="gpu-1"' in page


def test_without_javascript_the_page_itself_shows_a_repository(staff_client, hub):
    assert "Q8_0" in staff_client.get("/models/?repository=o/r").content.decode()


def test_a_look_that_fails_says_why(staff_client, monkeypatch):
    def refuse(said):
        raise NoAnswerError("o/r is gated. Accept <it>.")

    monkeypatch.setattr(pages, "look_up", refuse)
    page = staff_client.get("/models/repository?repository=o/r", **HTMX).content.decode()
    assert "o/r is gated. Accept &lt;it&gt;." in page


def test_a_name_that_cannot_be_is_refused_before_the_hub_is_asked(staff_client):
    page = staff_client.get("/models/repository?repository=../../etc", **HTMX).content.decode()
    assert "is no repository: write OWNER/NAME" in page
    assert staff_client.post("/models/download", {**WANTED, "repository": "../x"}, **HTMX).status_code == 400


def test_a_node_that_nobody_supervises_is_refused(staff_client):
    assert staff_client.post("/models/download", {**WANTED, "node": "gpu-9"}, **HTMX).status_code == 400
    assert not Download.objects.exists()


def test_a_wish_to_download_is_a_row_with_its_author(staff_client, staff):
    page = staff_client.post("/models/download", WANTED | {"projector": "1"}, **HTMX).content.decode()
    row = Download.objects.get()
    assert (row.node, row.repository, row.label, row.projector) == ("gpu-1", "o/r", "Q4_K_M", True)
    assert row.asked_by == staff.username
    assert LogEntry.objects.get().user == staff
    assert 'data-pushed hx-get="/models/downloads"' in page
    assert staff_client.post("/models/download", WANTED | {"projector": "1"}).url == "/models/"
    assert Download.objects.count() == 1


@pytest.mark.parametrize(
    ("state", "wish", "desired", "attempt"),
    [
        (State.RUNNING, "pause", "pause", 1),
        (State.PAUSED, "resume", "run", 1),
        (State.RUNNING, "cancel", "cancel", 1),
        (State.FAILED, "retry", "run", 2),
    ],
)
def test_a_button_is_a_wish(staff_client, state, wish, desired, attempt):
    row = a_download(state)
    path = f"/models/downloads/{row.pk}/{wish}"
    assert path in staff_client.get("/models/").content.decode()
    assert staff_client.post(path, **HTMX).status_code == 200
    row.refresh_from_db()
    assert (row.desired, row.attempt) == (desired, attempt)


def test_a_wish_that_there_is_not_is_not_found(staff_client):
    assert staff_client.post(f"/models/downloads/{a_download().pk}/explode").status_code == 404
    assert staff_client.post("/models/downloads/999/pause").status_code == 404


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"done": GIB, "total": 2 * GIB, "speed": 2**20},
            "1.0 of 2.0 GiB · 1.0 MiB/s · about 17 m 04 s left",
        ),
        ({"done": GIB, "total": 2 * GIB, "trouble": "Next try in 4 s."}, "1.0 of 2.0 GiB · Next try in 4 s."),
        ({}, "Asking the hub."),
        ({"state": State.FAILED, "error": "The disk is full."}, "The disk is full."),
        ({"state": State.DONE, "total": 2 * GIB}, "2.0 GiB"),
        ({"state": State.PAUSED, "done": GIB, "total": 2 * GIB}, "1.0 of 2.0 GiB"),
    ],
)
def test_a_download_is_told_in_words(staff_client, fields, words):
    a_download(**fields)
    assert words in staff_client.get("/models/downloads", **HTMX).content.decode()


def test_of_downloads_that_are_over_the_newest_are_listed(staff_client):
    for number in range(8):
        a_download(State.DONE, repository=f"o/r{number}")
    a_download(repository="o/going")
    page = staff_client.get("/models/downloads", **HTMX).content.decode()
    assert page.index("o/going") < page.index("o/r7") < page.index("o/r3")
    assert "o/r2" not in page
