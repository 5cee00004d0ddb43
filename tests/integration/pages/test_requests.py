"""The pages of past requests: who sees them, what they say, what a search finds."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from django.utils import timezone

from supervisor_app.gateway.edge import ledger
from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.traffic.models import RequestRecord
from supervisor_app.traffic.search import SHOWN
from tests.integration.building import STARTED, at, make_record, make_run
from tests.integration.pages.past_requests import ALL, HTMX, PAGE, SERVER, quarantined, section, words

__all__ = ["quarantined"]  # fixtures

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("default")]
CSS = Path(__file__).parents[3] / "static" / "supervisor" / "css"


# --- Who sees it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page", [PAGE, ALL, "/requests/1/", "/requests/usage/", "/requests/usage.csv", f"{ALL}in-flight"]
)
def test_only_staff_see_requests(page, client, person_client):
    ledger.write([make_record()])
    login = client.get(page)
    assert (login.status_code, login["Location"].partition("?")[0]) == (302, "/admin/login/")
    assert person_client.get(page).status_code == 403


@pytest.mark.parametrize("part", [PAGE, ALL, f"{PAGE}in-flight", f"{ALL}in-flight"])
def test_a_page_whose_login_has_ended_stops_asking_and_gets_nothing(part, client, person_client):
    ledger.write([make_record()])
    for stranger in (client, person_client):
        answer = stranger.get(part, **HTMX)
        assert (answer.status_code, answer.content) == (286, b"")


def test_a_page_of_the_version_before_loads_anew(staff_client):
    assert staff_client.get("/servers/default/requests", **HTMX)["HX-Refresh"] == "true"
    answer = staff_client.get("/servers/default/requests")
    assert (answer.status_code, answer["Location"]) == (302, PAGE)


def test_there_is_no_list_of_requests_of_a_server_that_is_gone(staff_client):
    for address in ("/servers/gone/requests/", "/servers/gone/requests/in-flight"):
        assert staff_client.get(address, **HTMX).status_code == 404


def test_a_page_is_only_read_and_never_kept(staff_client):
    assert staff_client.post(PAGE, **HTMX).status_code == 405
    assert "no-store" in staff_client.get(PAGE, **HTMX)["Cache-Control"]


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
        "1 m ago qwen3 /v1/chat/completions no key Answered after waiting 4.2 s 120 ms room, 4.0 s load 4.5 s 1 m 18 s "
        "1204 in, 86 out 900 cached 41/s"
    ) in shown


def test_unknown_fields_of_a_request_are_left_out(staff_client):
    ledger.write([make_record(outcome=Outcome.UNAVAILABLE, status=503, model="", duration_ms=3)])
    shown = words(staff_client.get(PAGE))
    assert "no model /v1/chat/completions no key Unavailable 503 3 ms" in shown


def test_a_status_that_is_none_is_not_shown_as_0(staff_client):
    ledger.write([make_record(outcome=Outcome.CLIENT_LEFT, status=0, duration_ms=3)])
    assert "Client left 3 ms" in words(staff_client.get(PAGE))


def models(answer):
    """The models of the requests that are listed, in order."""
    return re.findall(r'<td class="what"><b [^>]*>([^<]+)</b>', section(answer))


def test_the_newest_come_first_and_only_those_of_this_server(staff_client):
    now = timezone.now().timestamp()
    ledger.write([make_record(at=now - second, model=f"m{second}") for second in range(SHOWN + 5)])
    ledger.write([make_record(at=now + 1, server="other", model="elsewhere")])
    assert models(staff_client.get(PAGE)) == [f"m{second}" for second in range(SHOWN)]
    assert models(staff_client.get(ALL))[:2] == ["elsewhere", "m0"]


def test_the_next_page_begins_where_this_one_ended(staff_client):
    now = timezone.now().timestamp()
    ledger.write([make_record(at=now - number // 2, model=f"m{number}") for number in range(SHOWN + 5)])
    first = staff_client.get(PAGE)
    (older,) = re.findall(r'id="older" href="([^"]+)"', section(first))
    second = staff_client.get(older)
    seen = [*models(first), *models(second)]
    assert len(seen) == SHOWN + 5
    assert {*seen} == {f"m{number}" for number in range(SHOWN + 5)}
    assert 'id="older"' not in section(second)


def test_a_search_is_in_the_address_and_in_the_form(staff_client):
    now = timezone.now().timestamp()
    ledger.write([make_record(at=now, model="good"), make_record(at=now, model="bad", status=500)])
    query = "?span=24h&failed=1&sort=duration"
    shown = staff_client.get(PAGE + query)
    assert models(shown) == ["bad"]
    assert '<option value="24h" selected>' in section(shown)
    assert 'name="failed" value="1" checked' in section(shown)
    part = staff_client.get(f"{PAGE}{query}&outcome=", **HTMX)
    assert models_of_part(part) == ["bad"]
    assert part["HX-Push-Url"] == PAGE + query


def models_of_part(answer):
    return re.findall(r'<td class="what"><b [^>]*>([^<]+)</b>', answer.content.decode())


def test_a_part_that_asks_again_by_itself_leaves_the_address_alone(staff_client):
    answer = staff_client.get(f"{PAGE}?failed=1", **HTMX, HTTP_HX_TRIGGER="past")
    assert "HX-Push-Url" not in answer


def test_the_way_back_in_a_browser_gets_the_whole_page(staff_client):
    answer = staff_client.get(PAGE, **HTMX, HTTP_HX_HISTORY_RESTORE_REQUEST="true")
    assert "<main" in answer.content.decode()


def test_a_search_that_finds_nothing_says_so(staff_client):
    ledger.write([make_record()])
    shown = words(staff_client.get(f"{PAGE}?model=nobody"))
    assert "No request matches. Show all" in shown


def test_a_request_in_a_crash_leads_to_its_card(default, staff_client):
    run = make_run(default)
    lost = make_record(outcome=Outcome.UPSTREAM_CRASHED, status=200, run_name=str(run.pk))
    ledger.write([lost])
    assert f'href="/servers/default/runs/{run.pk}/">why it died' in section(staff_client.get(PAGE))
    card = section(staff_client.get(f"/requests/{RequestRecord.objects.get().pk}/"))
    assert f'href="/servers/default/runs/{run.pk}/"' in card


def test_the_words_of_a_request_are_shown_as_a_conversation_where_the_key_keeps_them(staff_client):
    asked = '{"messages": [{"role": "user", "content": "Why is the <sky> blue?"}]}'
    said = '{"choices": [{"message": {"role": "assistant", "content": "Air scatters it."}}]}'
    ledger.write([make_record(captured_request=asked, captured_answer=said), make_record()])
    kept, not_kept = RequestRecord.objects.order_by("captured_request")[::-1]
    raw = staff_client.get(f"/requests/{kept.pk}/").content.decode()
    assert "<sky>" not in raw
    shown = words(staff_client.get(f"/requests/{kept.pk}/"))
    assert "Conversation user Why is the blue? assistant Air scatters it." in shown
    assert "What was said is not kept" in words(staff_client.get(f"/requests/{not_kept.pk}/"))


def test_heads_and_bodies_are_shown_without_secrets(staff_client):
    told = [{"choices": [{"delta": {"content": piece}}]} for piece in ("The key is sk-0123", "456789abc.")]
    kept = {
        "captured_request_head": "POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer lp-1\r\nX-A: b\r\n",
        "captured_answer_head": "HTTP/1.1 200 OK\r\n\r\n",
        "captured_request": '{"messages": [{"role": "user", "content": "password: hunter22"}]}',
        "captured_answer": "".join(f"data: {json.dumps(event)}\n\n" for event in told),
    }
    ledger.write([make_record(**kept)])
    shown = words(staff_client.get(f"/requests/{RequestRecord.objects.get().pk}/"))
    assert "user password: [redacted] assistant The key is [redacted]." in shown
    assert "POST /v1/chat/completions HTTP/1.1 authorization: [redacted] X-A: b" in shown
    assert "hunter22" not in shown


def test_a_request_that_is_pruned_has_no_page(staff_client):
    assert staff_client.get("/requests/1/").status_code == 404


def test_text_of_clients_is_escaped(staff_client):
    ledger.write([make_record(model="<script>alert(1)</script>", route="/v1/<b>")])
    raw = staff_client.get(PAGE).content.decode()
    assert "<script>alert(1)" not in raw
    assert "/v1/<b>" not in raw


def test_an_open_page_is_pushed_the_same_table(staff_client):
    ledger.write([make_record(at=timezone.now().timestamp() - 3600)])
    shown = section(staff_client.get(f"{PAGE}?failed=1"))
    assert (
        f'<div id="past" data-pushed hx-get="{PAGE}?failed=1" hx-trigger="refresh" hx-swap="morph:outerHTML"'
        in shown
    )
    again = html.unescape(staff_client.get(f"{PAGE}?failed=1", **HTMX).content.decode())
    assert again.strip() in shown


def test_older_pages_stay_as_they_are(staff_client):
    shown = section(staff_client.get(f"{PAGE}?before=2026-11-29T12:00:00%2B00:00~7"))
    assert "data-pushed" not in shown[shown.index('id="past"') :]


def test_the_pages_cost_few_queries(default, staff_client, quarantined, django_assert_max_num_queries):
    make_loaded_run(default)
    ledger.write([make_record() for _ in range(SHOWN)])
    with django_assert_max_num_queries(7):
        staff_client.get(PAGE, **HTMX)
    with django_assert_max_num_queries(11):
        staff_client.get(PAGE)


def test_every_class_of_the_part_has_its_style(staff_client, quarantined):
    ledger.write([make_record()])
    used = set(" ".join(re.findall(r'class="([^"]+)"', section(staff_client.get(PAGE)))).split())
    styled = set(re.findall(r"\.([a-z][a-z-]*)", "".join(path.read_text() for path in CSS.rglob("*.css"))))
    assert used - styled == set()


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
    shown = " ".join(re.sub(r"<[^>]+>", " ", client.get(SERVER).content.decode()).split())
    assert "Loaded in 2.0 s: 0.5 s until coder had made room, 1.5 s to load." in shown
