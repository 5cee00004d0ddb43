"""The page of the audit: for whom, what it finds, its pages and its CSV."""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime

import pytest

from supervisor_app.fleet.models import AuditEntry
from supervisor_app.pages import audit

pytestmark = pytest.mark.django_db


@pytest.fixture
def acts():
    """Three acts of two people, a day apart."""
    said = [("ann", "stop", "server chat"), ("bob", "add", "key ci"), ("ann", "add", "server code")]
    for day, (actor, action, subject) in enumerate(said, 1):
        AuditEntry.objects.create(
            at=datetime(2026, 3, day, 12, tzinfo=UTC),
            actor=actor,
            door="page",
            action=action,
            subject=subject,
            after={"running": day},
            address="192.0.2.7",
        )


def text_of(answer):
    """Return the words of a page, without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def found(client, **query):
    return [str(entry) for entry, _ in client.get("/audit/", query).context["entries"]]


@pytest.mark.parametrize("path", ["/audit/", "/audit.csv"])
def test_the_audit_is_for_staff(client, person_client, staff_client, path):
    assert client.get(path).status_code == 302
    assert person_client.get(path).status_code == 403
    assert staff_client.get(path).status_code == 200


def test_the_page_says_that_nobody_has_done_anything(staff_client):
    assert "Nobody has done anything yet." in text_of(staff_client.get("/audit/"))


def test_the_page_shows_who_what_when_and_from_where(staff_client, acts):
    text = text_of(staff_client.get("/audit/"))
    for said in ("2026-03-03 12:00:00", "ann", "add server code", "page, 192.0.2.7", "running 3"):
        assert said in text


def test_many_values_of_an_act_are_folded(staff_client, acts):
    assert "<summary>" not in staff_client.get("/audit/").content.decode()
    many = {f"key_{number}": number for number in range(audit.MOST_VALUES + 1)}
    AuditEntry.objects.create(actor="ann", door="page", action="add", subject="server new", after=many)
    assert staff_client.get("/audit/").content.decode().count("<summary>9 values</summary>") == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["ann: add server code", "bob: add key ci", "ann: stop server chat"]),
        ({"who": "bob"}, ["bob: add key ci"]),
        ({"what": "add"}, ["ann: add server code", "bob: add key ci"]),
        ({"subject": "CODE"}, ["ann: add server code"]),
        ({"from": "2026-03-02"}, ["ann: add server code", "bob: add key ci"]),
        ({"to": "2026-03-02"}, ["bob: add key ci", "ann: stop server chat"]),
        ({"who": "nobody\0"}, []),
        ({"before": "²"}, 3),
    ],
)
def test_the_acts_are_filtered(staff_client, acts, query, expected):
    got = found(staff_client, **query)
    assert (got if isinstance(expected, list) else len(got)) == expected


@pytest.mark.parametrize("day", ["2026-02-31", "yesterday", "9999-12-31"])
@pytest.mark.parametrize("field", ["from", "to"])
def test_a_day_that_is_none_is_refused_in_words(staff_client, acts, field, day):
    page = staff_client.get("/audit/", {field: day})
    assert page.status_code == 400
    assert page.context["entries"] == []
    assert f"“{day}” is no day. Write it as 2026-03-01." in text_of(page)
    csv_file = staff_client.get("/audit.csv", {field: day})
    assert (csv_file.status_code, csv_file["Content-Type"]) == (400, "text/plain; charset=utf-8")


def test_the_filters_offer_the_newest_and_what_is_chosen(staff_client, acts, monkeypatch):
    monkeypatch.setattr(audit, "LOOKED_AT", 1)
    context = staff_client.get("/audit/?what=stop").context
    assert (context["actors"], context["actions"]) == (["ann"], ["add", "stop"])


def test_the_admin_shows_acts_and_lets_nobody_change_them(admin_client, acts):
    act = AuditEntry.objects.first()
    path = f"/admin/supervisor_app/auditentry/{act.pk}/"
    assert admin_client.get("/admin/supervisor_app/auditentry/").status_code == 200
    assert admin_client.get(f"{path}change/").status_code == 200
    assert [
        admin_client.post(path + each, {"actor": "eve"}).status_code for each in ("change/", "delete/")
    ] == [403, 403]


def test_a_choice_that_nothing_fits_says_so(staff_client, acts):
    assert "No act is like this." in text_of(staff_client.get("/audit/?who=nobody"))


def test_older_acts_are_on_further_pages_with_the_same_choice(staff_client, acts, monkeypatch):
    monkeypatch.setattr(audit, "LISTED", 1)
    page = staff_client.get("/audit/?who=ann")
    older = page.context["older"]
    assert f'href="/audit/?who=ann&amp;before={older}"' in page.content.decode()
    second = staff_client.get(f"/audit/?who=ann&before={older}")
    assert [str(entry) for entry, _ in second.context["entries"]] == ["ann: stop server chat"]
    assert second.context["older"] is None
    assert 'href="/audit/?who=ann"' in second.content.decode()


def test_the_csv_has_all_that_fits_and_no_formula(staff_client, acts):
    AuditEntry.objects.create(actor="=ann", door="cli", action="stop", subject="server chat")
    answer = staff_client.get("/audit.csv?what=stop")
    head, newest, oldest = csv.reader(b"".join(answer.streaming_content).decode().splitlines())
    assert head == list(audit.COLUMNS)
    assert newest[1:] == ["'=ann", "cli", "", "stop", "server chat", "", ""]
    assert oldest == [
        "2026-03-01T12:00:00+00:00",
        "ann",
        "page",
        "192.0.2.7",
        "stop",
        "server chat",
        "",
        '{"running": 1}',
    ]
