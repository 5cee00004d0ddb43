"""The pages of API keys: for whom, what is shown once, and what the audit keeps of it."""

from __future__ import annotations

import re
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from supervisor_app.fleet.models import AuditEntry
from supervisor_app.gateway.access.keys import Denied, KeyRing
from supervisor_app.gateway.edge import api_keys
from supervisor_app.traffic.families import LABELS
from supervisor_app.traffic.models import ApiKey, UsageDay
from tests.integration.building import make_key

pytestmark = pytest.mark.django_db

ALL = {"allowed_families": list(LABELS)}
"""Boxes of a form as it is shown for a key without a limit."""


def text_of(answer):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode())).replace("\u202f", " ")


def secret_of(answer):
    (secret,) = re.findall(r"lp-[\w-]{43}", answer.content.decode())
    return secret


def ring():
    return KeyRing(api_keys.load())


@pytest.fixture
def key():
    return make_key("chat", note="Anna", requests_per_minute=60)


def test_the_pages_are_for_those_who_administer(client, person_client, staff_client, key):
    for path in ("/keys/", "/keys/add/", f"/keys/{key.pk}/"):
        assert [each.get(path).status_code for each in (client, person_client, staff_client)] == [
            302,
            403,
            200,
        ]
    for act in ("change", "rotate", "switch", "delete"):
        assert person_client.post(f"/keys/{key.pk}/{act}").status_code == 403
    assert person_client.post("/keys/add/create", {"name": "x"}).status_code == 403


def test_without_keys_the_page_says_what_the_first_one_does(staff_client):
    assert "The first key shuts out all that come without one." in text_of(staff_client.get("/keys/"))
    assert "nobody is let in without one" in text_of(staff_client.get("/keys/add/"))


def test_the_list_says_what_each_key_may_and_has_used(staff_client, key):
    today = timezone.now().date()
    for days, tokens in ((0, 1200), (8, 3400), (40, 9)):
        UsageDay.objects.create(
            day=today - timedelta(days=days), key="chat", server="s", model="m", prompt_tokens=tokens
        )
    text = text_of(staff_client.get("/keys/"))
    for said in (
        "chat Anna",
        "In force",
        "lp-chat…",
        "all models",
        "60 requests/min",
        "never",
        "1 200",
        "4 600",
    ):
        assert said in text


def test_a_new_key_is_shown_once_and_works(staff_client):
    answer = staff_client.post(
        "/keys/add/create", {**ALL, "name": "ci", "allowed_models": "a\nb", "tokens_per_month": 5}
    )
    secret = secret_of(answer)
    assert answer["Cache-Control"].count("no-store") == 1
    policy = ring().find(secret, time.time())
    assert (policy.models, policy.families) == ({"a", "b"}, frozenset())
    entry = AuditEntry.objects.get(action="add")
    assert entry.subject == "key ci"
    assert entry.after == {
        "name": "ci",
        "begins": secret[:8],
        "allowed_models": ["a", "b"],
        "tokens_per_month": 5,
    }
    assert secret not in repr((entry.before, entry.after))
    assert secret not in staff_client.get("/keys/").content.decode()


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "chat"), ("tokens_per_month", "-1"), ("expires_at", "soon"), ("allowed_families", [])],
)
def test_a_mistake_makes_no_key_and_loses_nothing_typed(staff_client, key, field, value):
    said = {**ALL, "name": "ci", "note": "for the pipeline", field: value}
    answer = staff_client.post("/keys/add/create", said)
    assert answer.status_code == 400
    assert "for the pipeline" in answer.content.decode()
    assert ApiKey.objects.count() == 1


def test_a_key_is_changed_and_its_use_is_not(staff_client, key):
    ApiKey.objects.filter(pk=key.pk).update(last_used_at=timezone.now())
    said = {**ALL, "note": "Bert", "requests_per_minute": 60, "max_concurrent": 2, "may_read": "on"}
    assert staff_client.post(f"/keys/{key.pk}/change", said).status_code == 302
    key.refresh_from_db()
    assert (key.note, key.max_concurrent, key.may_read, bool(key.last_used_at)) == ("Bert", 2, True, True)
    entry = AuditEntry.objects.get()
    assert (entry.before, entry.after) == (
        {"note": "Anna", "max_concurrent": 0, "may_read": False},
        {"note": "Bert", "max_concurrent": 2, "may_read": True},
    )


def test_a_key_is_limited_to_endpoints_and_back(staff_client, key):
    path, said = f"/keys/{key.pk}/change", {"note": "Anna", "requests_per_minute": 60}
    assert b'value="chat" id="id_allowed_families_0" checked' in staff_client.get(f"/keys/{key.pk}/").content
    staff_client.post(path, {**said, "allowed_families": ["chat", "models"]})
    assert ring().find("lp-chat", time.time()).families == {"chat", "models"}
    assert "all models only chat, models" in text_of(staff_client.get("/keys/"))
    refused = staff_client.post(path, said)
    assert (refused.status_code, "Tick at least one" in text_of(refused)) == (400, True)
    assert (
        b" checked" not in refused.content.partition(b"id_allowed_families_0")[2].partition(b"</fieldset>")[0]
    )
    staff_client.post(path, {**said, **ALL})
    assert not ring().find("lp-chat", time.time()).families
    rows = [(row.before, row.after) for row in AuditEntry.objects.order_by("pk")]
    limit, none = ({"allowed_families": each} for each in (["chat", "models"], []))
    assert rows == [(none, limit), (limit, none)]


def test_a_rotated_key_keeps_its_old_secret_until_then(staff_client, key):
    said = {"begins": key.prefix, "span": "3600"}
    answer = staff_client.post(f"/keys/{key.pk}/rotate", said)
    now, secret = time.time(), secret_of(answer)
    assert {ring().find(each, now).id for each in ("lp-chat", secret)} == {key.pk}
    with pytest.raises(Denied):
        ring().find("lp-chat", now + 3601)
    assert "old secret until" in text_of(staff_client.get("/keys/"))
    assert secret not in repr(AuditEntry.objects.values())


def test_a_form_of_a_rotation_that_is_sent_twice_rotates_once(staff_client, key):
    said = {"begins": key.prefix, "span": "0"}
    secret = secret_of(staff_client.post(f"/keys/{key.pk}/rotate", said))
    again = staff_client.post(f"/keys/{key.pk}/rotate", said, follow=True)
    assert "chat has another secret since" in text_of(again)
    assert ring().find(secret, time.time())
    with pytest.raises(Denied, match="has a new secret"):
        ring().find("lp-chat", time.time())


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"span": "date"}, "Write the date until which it is"),
        ({"span": "0", "until": "2020-01-01T00:00"}, "is over"),
    ],
)
def test_a_rotation_without_a_later_moment_is_refused(staff_client, key, said, why):
    answer = staff_client.post(f"/keys/{key.pk}/rotate", {"begins": key.prefix, **said})
    assert answer.status_code == 400
    assert why in text_of(answer)


def test_the_page_that_asked_shows_what_came_of_a_rotation(staff_client, key):
    htmx = {"headers": {"HX-Request": "true"}}
    path, said = f"/keys/{key.pk}/rotate", {"begins": key.prefix, "span": "0"}
    wrong = staff_client.post(path, {**said, "span": "date"}, **htmx)
    assert (wrong.status_code, "Write the date" in text_of(wrong)) == (200, True)
    secret = secret_of(staff_client.post(path, said, **htmx))
    assert ring().find(secret, time.time())
    assert staff_client.post(path, said, **htmx)["HX-Redirect"] == f"/keys/{key.pk}/"


def test_a_key_is_switched_off_and_on_again(staff_client, key):
    staff_client.post(f"/keys/{key.pk}/switch")
    with pytest.raises(Denied, match="switched off"):
        ring().find("lp-chat", time.time())
    assert "Switched off" in text_of(staff_client.get("/keys/"))
    staff_client.post(f"/keys/{key.pk}/switch", {"on": "1"})
    assert ring().find("lp-chat", time.time())


def test_a_key_is_deleted_after_a_dialog_that_says_what_goes(staff_client, key):
    page = staff_client.get(f"/keys/{key.pk}/").content.decode()
    assert "It was never used. It is the last key: without any, all programs" in page
    answer = staff_client.post(f"/keys/{key.pk}/delete", headers={"HX-Request": "true"})
    assert answer["HX-Redirect"] == "/keys/"
    assert not ApiKey.objects.exists()
    assert AuditEntry.objects.get().action == "delete"
