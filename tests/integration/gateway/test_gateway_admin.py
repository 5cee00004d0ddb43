"""Keys in the admin: shown once, limited, switched off; requests and quarantine to read."""

from __future__ import annotations

import logging
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from supervisor_app.fleet.models import LlamaServer
from supervisor_app.gateway.access.keys import KeyRing
from supervisor_app.gateway.edge import api_keys, idleness, ledger, quarantine
from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.records.record import Outcome, QuarantineEntry
from supervisor_app.traffic.families import LABELS
from supervisor_app.traffic.models import ApiKey, QuarantinedRequest, RequestRecord
from tests.integration.admin_pages import errors, page
from tests.integration.building import STARTED, make_key, make_record, make_server

pytestmark = pytest.mark.django_db

KEYS = "/admin/traffic/apikey/"
REQUESTS = "/admin/traffic/requestrecord/"
QUARANTINE = "/admin/traffic/quarantinedrequest/"
SERVERS = "/admin/supervisor_app/llamaserver/"
FILLED = {
    "name": "chat",
    "enabled": "on",
    "expires_at_0": "",
    "expires_at_1": "",
    "allowed_models": "",
    "allowed_families": list(LABELS),
    "requests_per_minute": "60",
    "tokens_per_minute": "0",
    "max_concurrent": "0",
    "tokens_per_month": "0",
}
SECRET = re.compile(r"lp-[A-Za-z0-9_-]{43}")


def allowed(*codenames):
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def change_url(row, url=KEYS):
    return f"{url}{row.pk}/change/"


# --- A new key -----------------------------------------------------------------------------------------


def test_a_new_key_is_shown_and_works(staff_client):
    answer = staff_client.post(f"{KEYS}add/", FILLED)
    (key,) = SECRET.findall(page(answer))
    assert "it is not stored and cannot be shown again" in page(answer)
    policy = KeyRing(api_keys.load()).find(key, STARTED)
    assert (policy.name, policy.requests_per_minute) == ("chat", 60)
    assert key.startswith(ApiKey.objects.get().prefix)


def test_the_page_with_the_key_is_not_kept_by_a_browser(staff_client):
    assert "no-store" in staff_client.post(f"{KEYS}add/", FILLED)["Cache-Control"]


def test_a_key_is_shown_once_and_kept_nowhere(staff_client, caplog):
    caplog.set_level(logging.DEBUG)
    (key,) = SECRET.findall(page(staff_client.post(f"{KEYS}add/", FILLED)))
    row = ApiKey.objects.get()
    for url in (KEYS, change_url(row), f"{KEYS}{row.pk}/history/", f"{KEYS}{row.pk}/delete/", "/admin/"):
        shown = page(staff_client.get(url))
        assert key not in shown
        assert row.digest not in shown
    assert key not in str(ApiKey.objects.values().get())
    assert key not in str(list(LogEntry.objects.values()))
    assert all(key not in str(session.get_decoded()) for session in Session.objects.all())
    assert key not in caplog.text


def test_two_keys_are_never_the_same(staff_client):
    first = page(staff_client.post(f"{KEYS}add/", FILLED))
    second = page(staff_client.post(f"{KEYS}add/", FILLED | {"name": "other"}))
    assert SECRET.findall(first) != SECRET.findall(second)


def test_a_refused_form_makes_no_key(staff_client):
    make_key("chat")
    answer = staff_client.post(f"{KEYS}add/", FILLED)
    assert not SECRET.search(page(answer))
    assert "already exists" in errors(answer)["name"]


@pytest.mark.parametrize(("button", "leads_to"), [("_save", KEYS), ("_addanother", f"{KEYS}add/")])
def test_the_page_with_the_new_key_leads_on(button, leads_to, staff_client):
    shown = page(staff_client.post(f"{KEYS}add/", FILLED | {button: "1"}))
    assert f'<a href="{leads_to}">I have copied it</a>' in shown


def test_the_page_with_the_key_needs_no_inline_script_or_style(staff_client):
    shown = page(staff_client.post(f"{KEYS}add/", FILLED))
    assert "style=" not in shown
    assert not re.search(r"<script(?![^>]* src=)", shown)


# --- Changing a key ------------------------------------------------------------------------------------


def test_a_change_leaves_the_key_as_it_is(staff_client):
    key = make_key()
    answer = staff_client.post(change_url(key), FILLED | {"name": "renamed"})
    assert answer.status_code == 302
    changed = ApiKey.objects.get()
    assert (changed.name, changed.digest, changed.prefix) == ("renamed", key.digest, key.prefix)


def test_a_key_that_was_used_keeps_its_name_and_so_its_budget(staff_client):
    key = make_key()
    ApiKey.objects.update(last_used_at=timezone.now())
    was, said = key.name, FILLED | {"name": "renamed", "max_concurrent": "7"}
    assert staff_client.post(change_url(key), said).status_code == 302
    key.refresh_from_db()
    assert (key.name, key.max_concurrent) == (was, 7)


def test_models_are_typed_one_a_line_and_come_back_the_same(staff_client):
    key = make_key()
    staff_client.post(change_url(key), FILLED | {"allowed_models": " a \n\nb/c:d\r\na\n"})
    key.refresh_from_db()
    assert key.allowed_models == ["a", "b/c:d"]
    form = staff_client.get(change_url(key)).context["adminform"].form
    assert form["allowed_models"].value() == "a\nb/c:d"
    staff_client.post(change_url(key), FILLED | {"allowed_models": form["allowed_models"].value()})
    assert "allowed_models" not in LogEntry.objects.first().change_message


def test_a_limit_that_no_database_holds_is_refused(staff_client):
    found = errors(staff_client.post(f"{KEYS}add/", FILLED | {"tokens_per_minute": "9999999999"}))
    assert "less than or equal to 1000000000" in found["tokens_per_minute"]


def test_the_list_tells_what_each_may(staff_client):
    make_key("free")
    make_key("off", enabled=False, requests_per_minute=5, tokens_per_minute=6, max_concurrent=7)
    make_key("old", expires_at=timezone.now() - timedelta(seconds=1), allowed_models=["a", "b"])
    shown = page(staff_client.get(KEYS))
    for words in ("works", "none", "switched off", "5 requests/min, 6 tokens/min, 7 at once"):
        assert f">{words}<" in shown
    assert ">expired<" in shown
    assert ">only a, only b<" in shown
    assert "<code>lp-free…</code>" in shown


def test_a_key_is_limited_to_the_endpoints_that_are_ticked(staff_client):
    key = make_key()
    staff_client.post(change_url(key), FILLED | {"allowed_families": ["chat", "models"]})
    key.refresh_from_db()
    assert key.allowed_families == ["chat", "models"]
    assert "only chat, only models" in staff_client.get(KEYS).content.decode()


def test_a_key_may_only_ask_models_unless_somebody_ticks_more(staff_client):
    staff_client.post(f"{KEYS}add/", FILLED)
    staff_client.post(f"{KEYS}add/", FILLED | {"name": "operator", "may_change": "on"})
    rights = {key.name: key.scopes for key in ApiKey.objects.all()}
    assert rights == {"chat": {"inference"}, "operator": {"inference", "read", "change"}}
    shown = page(staff_client.get(KEYS))
    assert ">inference<" in shown
    assert ">inference, read, change<" in shown


def test_keys_are_switched_off_and_on(staff_client):
    keys = [make_key("a").pk, make_key("b").pk]
    for action, enabled in (("switch_off", False), ("switch_on", True)):
        staff_client.post(KEYS, {"action": action, "_selected_action": keys, "post": "yes"})
        assert set(ApiKey.objects.values_list("enabled", flat=True)) == {enabled}


def test_keys_are_not_switched_off_before_a_question(staff_client):
    keys = [make_key("a").pk, make_key("b", enabled=False).pk]
    asked = page(staff_client.post(KEYS, {"action": "switch_off", "_selected_action": keys}))
    assert "requests in flight end." in asked
    assert ("<li>a</li>" in asked, "<li>b</li>" in asked) == (True, False)
    assert ApiKey.objects.get(name="a").enabled


def test_a_key_is_deleted(staff_client):
    key = make_key()
    staff_client.post(f"{KEYS}{key.pk}/delete/", {"post": "yes"})
    assert api_keys.load() == []
    assert str(key) == "chat"


def test_a_person_who_may_only_look_makes_no_key():
    client = allowed("view_apikey")
    assert client.get(KEYS).status_code == 200
    assert client.post(f"{KEYS}add/", FILLED).status_code == 403
    assert not ApiKey.objects.exists()


# --- Requests ------------------------------------------------------------------------------------------


@pytest.fixture
def asked():
    """One that was answered, one that was refused, one whose client left, one with its words."""
    make_server()
    key = make_key()
    usage = Usage(prompt_tokens=1204, generated_tokens=86)
    ledger.write(
        [
            make_record(key=key.pk, held_ms=4200, room_ms=120, ttft_ms=340, duration_ms=78_000, usage=usage),
            make_record(server="other", status=429, outcome=Outcome.REFUSED, duration_ms=3),
            make_record(status=0, outcome=Outcome.CLIENT_LEFT, model="left-model"),
            make_record(model="kept", captured_request='{"a": "<b>hi</b>"}', captured_answer="hello"),
        ]
    )


def test_the_list_tells_what_became_of_each(staff_client, asked):
    shown = page(staff_client.get(REQUESTS))
    for words in ("Answered", "Refused", "Client left", "4.2 s", "340 ms", "1 m 18 s", "1204 in, 86 out"):
        assert f">{words}<" in shown


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"server": "default"}, 3),
        ({"server": "other"}, 1),
        ({"outcome__exact": "refused"}, 1),
        ({"status": "2"}, 2),
        ({"status": "4"}, 1),
        ({"status": "5"}, 0),
        ({"status": "none"}, 1),
        ({"key": "chat"}, 1),
        ({"q": "left-model"}, 1),
        ({"at__year": "2025"}, 4),
    ],
)
def test_the_list_is_narrowed(query, count, staff_client, asked):
    answer = staff_client.get(REQUESTS, query)
    assert answer.status_code == 200
    assert answer.context["cl"].result_count == count


def test_filters_offer_what_there_is_without_reading_the_records(staff_client, asked):
    filters = {each.title: each for each in staff_client.get(REQUESTS).context["cl"].filter_specs}
    assert [name for name, _ in filters["server"].lookup_choices] == ["default"]
    assert [name for name, _ in filters["key"].lookup_choices] == ["chat"]


def test_the_list_does_not_read_what_was_said(staff_client, asked):
    rows = staff_client.get(REQUESTS).context["cl"].result_list
    assert all({"captured_request", "captured_answer"} <= row.get_deferred_fields() for row in rows)


def test_the_kept_text_of_a_request_is_read_on_its_own_page(staff_client, asked):
    kept, other = RequestRecord.objects.get(model="kept"), RequestRecord.objects.get(model="left-model")
    link = f'href="/requests/{kept.pk}/"'
    assert link in staff_client.get(change_url(kept, REQUESTS)).content.decode()
    assert "hello" not in page(staff_client.get(change_url(kept, REQUESTS)))
    assert "What was said" not in page(staff_client.get(change_url(other, REQUESTS)))


def test_requests_are_for_who_may_see_them(asked, person_client):
    assert person_client.get(REQUESTS).status_code == 302
    assert allowed("view_apikey").get(REQUESTS).status_code == 403


def test_requests_are_only_read(staff_client, asked):
    row = RequestRecord.objects.first()
    assert staff_client.get(f"{REQUESTS}add/").status_code == 403
    assert staff_client.post(f"{REQUESTS}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "_save" not in page(staff_client.get(change_url(row, REQUESTS)))


# --- Quarantine ----------------------------------------------------------------------------------------


@pytest.fixture
def quarantined():
    now = timezone.now().timestamp()
    for number, until in enumerate((now + 3600, now - 1)):
        entry = QuarantineEntry(
            server="default",
            body_hash=f"{number}" * 64,
            run_name=f"run {number}",
            reason="Ended by a signal: SIGSEGV.",
            at=now,
            until=until,
        )
        quarantine.put(entry)
    return QuarantinedRequest.objects.get(incident="run 0")


def test_the_quarantine_is_listed_with_what_is_in_force(staff_client, quarantined):
    shown = page(staff_client.get(QUARANTINE))
    assert "Ended by a signal: SIGSEGV." in shown
    assert len(re.findall(r'class="field-in_force"><img [^>]*alt="True"', shown)) == 1


def test_a_quarantined_request_is_released(staff_client, quarantined):
    chosen = {"action": "release", "_selected_action": [quarantined.pk]}
    assert "Release these requests?" in page(staff_client.post(QUARANTINE, chosen))
    assert QuarantinedRequest.objects.count() == 2
    chosen["post"] = "yes"
    assert "Released: 1." in page(staff_client.post(QUARANTINE, chosen, follow=True))
    assert [row.incident for row in QuarantinedRequest.objects.all()] == ["run 1"]


def test_a_person_who_may_only_look_releases_nothing(quarantined):
    client = allowed("view_quarantinedrequest")
    assert "Release" not in page(client.get(QUARANTINE))
    client.post(QUARANTINE, {"action": "release", "_selected_action": [quarantined.pk]})
    assert QuarantinedRequest.objects.count() == 2


# --- Servers -------------------------------------------------------------------------------------------


def test_the_form_of_a_server_has_the_settings_of_the_gateway(staff_client):
    server = make_server(aliases=["chat", "gpt-4"])
    shown = page(staff_client.get(change_url(server, SERVERS)))
    for name in ("aliases", "hold_seconds", "max_concurrent", "max_queue", "idle_stop_seconds"):
        assert f'name="{name}"' in shown
    assert ">\nchat\ngpt-4</textarea>" in shown


def test_a_server_is_deleted_with_what_is_known_of_its_use(staff_client):
    server = make_server()
    idleness.touch_use(["default"], STARTED)
    ledger.write([make_record()])
    assert staff_client.post(f"{SERVERS}{server.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not LlamaServer.objects.exists()
    assert RequestRecord.objects.exists()
