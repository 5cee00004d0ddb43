"""The part of a server's page that is about requests: who sees it, what it says, what the button does."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone

from supervisor_app.gateway.edge import ledger
from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.records.record import Outcome, QuarantineEntry
from supervisor_app.pages.panel import LISTED
from supervisor_app.pages.templatetags.gateway_tags import (
    outcome_remarks,
    outcome_tone,
    outcome_word,
    spent,
    tokens_more,
)
from supervisor_app.traffic.models import QuarantinedRequest, RequestRecord
from tests.integration.building import STARTED, at, make_ready_server, make_record, make_run

pytestmark = pytest.mark.django_db

PAGE = "/servers/default/"
PART = "/servers/default/requests"
HTMX = {"HTTP_HX_REQUEST": "true"}
CSS = Path(__file__).parents[3] / "static" / "supervisor" / "css"


@pytest.fixture(autouse=True)
def default():
    return make_ready_server()


@pytest.fixture
def quarantined():
    return quarantine()


def quarantine(until=3600, **fields):
    now = timezone.now().timestamp()
    entry = {"server": "default", "body_hash": "ab" * 32, "run_name": "run 3", "reason": "It died."}
    ledger.quarantine(QuarantineEntry(**entry | fields, at=now, until=now + until))
    return QuarantinedRequest.objects.latest("pk")


def section(answer):
    assert answer.status_code == 200
    shown = html.unescape(answer.content.decode())
    return shown[shown.index('<section id="requests"') :].partition("</section>")[0]


def words(answer):
    """What a person reads of it."""
    return " ".join(re.sub(r"<[^>]+>", " ", section(answer)).split())


def release_url(entry):
    return f"{PAGE}quarantine/{entry.pk}/release"


# --- Who sees it ---------------------------------------------------------------------------------------


def test_only_staff_see_requests(client, person_client, staff_client):
    ledger.write([make_record()])
    assert 'id="requests"' in staff_client.get(PAGE).content.decode()
    for stranger in (client, person_client):
        shown = stranger.get(PAGE).content.decode()
        assert 'id="requests"' not in shown
        assert "qwen3" not in shown


def test_a_page_whose_login_has_ended_stops_asking_and_gets_nothing(client, person_client):
    ledger.write([make_record()])
    for stranger in (client, person_client):
        answer = stranger.get(PART, **HTMX)
        assert (answer.status_code, answer.content) == (286, b"")


def test_the_part_alone_is_no_page(staff_client):
    answer = staff_client.get(PART)
    assert (answer.status_code, answer["Location"]) == (302, PAGE)


def test_there_is_no_list_of_requests_of_a_server_that_is_gone(staff_client):
    assert staff_client.get("/servers/gone/requests", **HTMX).status_code == 404


def test_the_part_is_only_read_and_never_kept(staff_client):
    assert staff_client.post(PART, **HTMX).status_code == 405
    assert "no-store" in staff_client.get(PART, **HTMX)["Cache-Control"]


# --- What it says --------------------------------------------------------------------------------------


def test_a_page_without_requests_says_what_to_do(staff_client):
    assert "No request yet. Point your client at http://testserver:8001/v1" in words(staff_client.get(PAGE))


def test_a_request_is_told_in_words(staff_client):
    usage = Usage(prompt_tokens=1204, cached_tokens=900, generated_tokens=86, tokens_per_second=41.26)
    told = make_record(
        at=timezone.now().timestamp() - 90,
        outcome=Outcome.HELD,
        held_ms=4200,
        room_ms=120,
        load_ms=4010,
        ttft_ms=4540,
        duration_ms=78_000,
        usage=usage,
    )
    ledger.write([told])
    shown = words(staff_client.get(PAGE))
    assert (
        "1 m ago qwen3 /v1/chat/completions Answered after waiting 4.2 s 120 ms room, 4.0 s load 4.5 s 1 m 18 s "
        "1204 in, 86 out 900 cached, 41/s"
    ) in shown


def test_unknown_fields_of_a_request_are_left_out(staff_client):
    ledger.write([make_record(outcome=Outcome.UNAVAILABLE, status=503, model="", duration_ms=3)])
    shown = words(staff_client.get(PAGE))
    assert "no model /v1/chat/completions Unavailable 503 3 ms All requests" in shown


def test_a_status_that_is_none_is_not_shown_as_0(staff_client):
    ledger.write([make_record(outcome=Outcome.CLIENT_LEFT, status=0, duration_ms=3)])
    assert "Client left 3 ms" in words(staff_client.get(PAGE))


def test_the_newest_come_first_and_only_those_of_this_server(staff_client):
    now = timezone.now().timestamp()
    ledger.write([make_record(at=now - second, model=f"m{second}") for second in range(LISTED + 5)])
    ledger.write([make_record(at=now, server="other", model="elsewhere")])
    shown = section(staff_client.get(PAGE))
    assert re.findall(r"<b [^>]*>(\w+)</b>", shown) == [f"m{second}" for second in range(LISTED)]
    assert f"The newest {LISTED}." in shown
    assert "/admin/traffic/requestrecord/?server=default" in shown


def test_text_of_clients_is_escaped(staff_client):
    ledger.write([make_record(model="<script>alert(1)</script>", route="/v1/<b>")])
    raw = staff_client.get(PAGE).content.decode()
    assert "<script>alert(1)" not in raw
    assert "/v1/<b>" not in raw


def test_an_open_page_asks_for_the_same_part_again(staff_client):
    ledger.write([make_record(at=timezone.now().timestamp() - 3600)])
    shown = section(staff_client.get(PAGE))
    assert 'hx-get="/servers/default/requests" hx-trigger="every 5s" hx-swap="morph:outerHTML"' in shown
    without_token = re.compile(r'name="csrfmiddlewaretoken" value="\w+"')
    again = section(staff_client.get(PART, **HTMX))
    assert without_token.sub("", again) == without_token.sub("", shown)


def test_the_page_costs_few_queries(default, staff_client, quarantined, django_assert_max_num_queries):
    make_loaded_run(default)
    ledger.write([make_record() for _ in range(LISTED)])
    with django_assert_max_num_queries(7):
        staff_client.get(PART, **HTMX)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_its_word_and_its_colour(outcome):
    assert outcome_word(outcome.value)
    assert outcome_tone(outcome.value) in {"up", "busy", "calm", "warn", "bad"}


@pytest.mark.parametrize(
    ("fields", "remarks"),
    [
        ({"outcome": "ok", "status": 200}, ""),
        ({"outcome": "replayed", "status": 200}, "after a crash"),
        ({"outcome": "upstream_error", "status": 400}, "400"),
        ({"outcome": "refused", "status": 429}, "429"),
        ({"outcome": "client_left", "status": None}, ""),
    ],
)
def test_an_outcome_has_its_remarks(fields, remarks):
    assert outcome_remarks(RequestRecord(**fields)) == remarks


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, ""),
        ({"cached_tokens": 0, "tokens_per_second": 0.25}, "0.2/s"),
        ({"cached_tokens": 7, "tokens_per_second": 9.94}, "7 cached, 9.9/s"),
        ({"tokens_per_second": 9.96}, "10/s"),
    ],
)
def test_tokens_have_their_remarks(fields, said):
    assert tokens_more(RequestRecord(**fields)) == said


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(None, ""), (0, "0 ms"), (0.4, "0 ms"), (999.4, "999 ms"), (999.6, "1.0 s"), (61_000, "1 m 01 s")],
)
def test_times_are_said_as_short_as_they_are(milliseconds, words):
    assert spent(milliseconds) == words


def test_every_class_of_the_part_has_its_style(staff_client, quarantined):
    ledger.write([make_record()])
    used = set(" ".join(re.findall(r'class="([^"]+)"', section(staff_client.get(PAGE)))).split())
    styled = set(re.findall(r"\.([a-z][a-z-]*)", "".join(path.read_text() for path in CSS.rglob("*.css"))))
    assert used - styled == set()


# --- Quarantine ----------------------------------------------------------------------------------------


def test_a_quarantined_request_is_shown_with_its_reason(staff_client, quarantined):
    shown = words(staff_client.get(PAGE))
    assert "This request has killed the server. Whoever sends it again gets an error instead." in shown
    assert "It died." in shown
    assert "run 3 · abababababab" in shown


def test_several_are_told_as_several(staff_client, quarantined):
    quarantine(body_hash="cd" * 32)
    shown = words(staff_client.get(PAGE))
    assert "These requests have killed the server. Whoever sends one of them again" in shown


def test_a_request_out_of_quarantine_or_of_another_server_is_not_shown(staff_client):
    quarantine(until=-1)
    quarantine(server="other")
    assert "quarantine" not in words(staff_client.get(PAGE))


def test_the_button_releases_and_the_part_shows_it(staff_client, quarantined):
    answer = staff_client.post(release_url(quarantined), **HTMX)
    assert "In quarantine" not in words(answer)
    assert not QuarantinedRequest.objects.exists()


def test_without_script_the_button_leads_back_to_the_page(staff_client, quarantined):
    answer = staff_client.post(release_url(quarantined))
    assert (answer.status_code, answer["Location"]) == (302, PAGE)


def test_releasing_twice_is_no_error(staff_client, quarantined):
    staff_client.post(release_url(quarantined))
    assert staff_client.post(release_url(quarantined), **HTMX).status_code == 200


def test_a_release_is_of_this_server_only(staff_client, quarantined):
    make_ready_server("other")
    staff_client.post(f"/servers/other/quarantine/{quarantined.pk}/release")
    assert QuarantinedRequest.objects.exists()


def test_only_staff_release(client, person_client, quarantined):
    for stranger in (client, person_client):
        assert stranger.post(release_url(quarantined)).status_code == 403
    assert QuarantinedRequest.objects.exists()


def test_a_link_releases_nothing(staff_client, quarantined):
    assert staff_client.get(release_url(quarantined)).status_code == 405


def test_without_the_token_nothing_is_released(staff, quarantined):
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff)
    assert client.post(release_url(quarantined)).status_code == 403
    assert QuarantinedRequest.objects.exists()


# --- The first token after a load ----------------------------------------------------------------------

WAITED = "Requests waited for the last load: the first token came"


def make_loaded_run(server):
    """A run whose load began at `STARTED`, and took 2 s."""
    loaded = {"roomMs": 500, "loadMs": 1500, "madeRoom": ["coder"]}
    return make_run(server, ready_at=at(STARTED + 2), ended_at=None, loaded=loaded)


def test_the_first_token_after_a_load_is_that_of_a_request_that_waited_for_it(default, staff_client):
    make_loaded_run(default)
    ledger.write(
        [
            make_record(at=STARTED - 60, ttft_ms=62_100),
            make_record(at=STARTED, ttft_ms=2300, held_ms=2000),
            make_record(at=STARTED + 1, ttft_ms=1250, held_ms=1000),
            make_record(at=STARTED + 1, ttft_ms=None),
            make_record(at=STARTED + 3, ttft_ms=10),
        ]
    )
    assert f"{WAITED} 250 ms after it." in words(staff_client.get(PAGE))


@pytest.mark.parametrize("loaded", [True, False])
def test_nothing_is_said_of_a_load_that_no_request_waited_for_or_nobody_measured(
    loaded, default, staff_client
):
    make_loaded_run(default) if loaded else make_run(default, ready_at=at(STARTED + 2), ended_at=None)
    ledger.write([make_record(at=STARTED + 3, ttft_ms=10)])
    assert WAITED not in words(staff_client.get(PAGE))


def test_the_page_of_a_server_says_how_long_its_load_took(default, client):
    make_loaded_run(default)
    shown = " ".join(re.sub(r"<[^>]+>", " ", client.get(PAGE).content.decode()).split())
    assert "Loaded in 2.0 s: 0.5 s until coder had made room, 1.5 s to load." in shown
