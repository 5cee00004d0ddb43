"""What the pages refuse: guessed passwords, and other sites' pages."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from supervisor_app.fleet import login_counts
from supervisor_app.fleet.models import AuditEntry, LoginCount

pytestmark = pytest.mark.django_db

LOGIN = "/admin/login/"
FAILURES = settings.AXES_FAILURE_LIMIT
PASSWORD = "correct-horse-battery"


@pytest.fixture(autouse=True)
def nobody_has_guessed():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def person():
    return User.objects.create_superuser("boss", password=PASSWORD)


def attempt(password, address="192.0.2.1", name="boss", **headers):
    return Client(REMOTE_ADDR=address, headers=headers).post(LOGIN, {"username": name, "password": password})


def guess(times, **more):
    return [attempt(f"guess {number}", **more).status_code for number in range(times)]


# --- Passwords -----------------------------------------------------------------------------------------


def test_a_person_who_mistypes_now_and_then_gets_in(person):
    guess(FAILURES - 1)
    assert attempt(PASSWORD).status_code == 302
    guess(FAILURES - 1)
    assert attempt(PASSWORD).status_code == 302


def test_an_address_that_guesses_is_refused_also_with_the_right_password(person):
    guess(FAILURES)
    refused = attempt(PASSWORD)
    assert refused.status_code == 429
    assert refused["Retry-After"] == "300"
    assert b"Try again in 5 minutes" in refused.content
    assert attempt(PASSWORD, address="192.0.2.2").status_code == 302


def test_guesses_at_many_names_count_together(person):
    for number in range(FAILURES):
        attempt("guess", name=f"user{number}")
    assert attempt(PASSWORD).status_code == 429


def test_the_addresses_of_one_ipv6_site_count_together(person):
    for number in range(FAILURES):
        attempt("guess", address=f"2001:db8:1:2::{number:x}")
    assert attempt(PASSWORD, address="2001:db8:1:2:3::1").status_code == 429
    assert attempt(PASSWORD, address="2001:db8:1:3::1").status_code == 302


def test_an_ipv4_address_counts_alike_in_both_spellings(person):
    guess(FAILURES, address="::ffff:192.0.2.9")
    assert attempt(PASSWORD, address="192.0.2.9").status_code == 429
    assert attempt(PASSWORD, address="::ffff:192.0.2.10").status_code == 302


def test_an_address_that_a_client_claims_is_not_believed(person):
    for number in range(FAILURES):
        attempt("guess", **{"X-Forwarded-For": f"198.51.100.{number}"})
    assert attempt(PASSWORD, **{"X-Forwarded-For": "198.51.100.77"}).status_code == 429


def test_behind_a_tls_proxy_its_word_counts_and_not_the_client_s(person, settings):
    settings.BEHIND_TLS = True
    for number in range(FAILURES):
        attempt("guess", **{"X-Forwarded-For": f"203.0.113.{number}, 198.51.100.1"})
    assert attempt(PASSWORD, **{"X-Forwarded-For": "203.0.113.99, 198.51.100.1"}).status_code == 429
    assert attempt(PASSWORD, **{"X-Forwarded-For": "198.51.100.2"}).status_code == 302


def test_guesses_of_an_address_that_is_refused_write_nothing_to_the_database(
    person, django_assert_num_queries
):
    guess(FAILURES)
    with django_assert_num_queries(0):
        attempt("guess")
        attempt("guess", name="nobody")


def test_all_web_processes_count_together(person):
    for number in range(FAILURES):
        cache.clear()  # each guess at another process, which remembers nothing
        attempt(f"guess {number}")
    cache.clear()
    assert attempt(PASSWORD).status_code == 429
    assert attempt(PASSWORD, address="192.0.2.2").status_code == 302


def test_a_refusal_is_looked_up_once_by_each_process(person, django_assert_num_queries):
    guess(FAILURES)
    cache.clear()
    with django_assert_num_queries(1):
        attempt("guess")
        attempt("guess", name="nobody")


def test_counts_end_and_are_forgotten_and_name_nobody(person):
    guess(FAILURES, name="hunter2")
    assert "hunter2" not in repr(LoginCount.objects.values())
    LoginCount.objects.update(ends_at=timezone.now())
    cache.clear()
    assert attempt(PASSWORD).status_code == 302
    guess(1, address="192.0.2.3")
    assert LoginCount.objects.count() == 2, "of the address, and of the account from there"


def test_the_table_of_counts_stays_small_whoever_guesses(person, monkeypatch):
    monkeypatch.setattr(login_counts, "MOST_ROWS", 6)
    for number in range(5):
        guess(1, address=f"192.0.2.{number}")
        assert LoginCount.objects.count() <= 6
    guess(FAILURES - 1, address="192.0.2.4")
    assert attempt(PASSWORD, address="192.0.2.4").status_code == 429, "the newest are kept"


def test_a_login_to_an_account_of_one_s_own_does_not_set_back_guesses_at_another(person):
    User.objects.create_user("mole", password=PASSWORD)
    guess(FAILURES - 1)
    assert attempt(PASSWORD, name="mole").status_code == 302
    guess(1)
    assert attempt(PASSWORD).status_code == 429
    assert attempt(PASSWORD, address="192.0.2.2").status_code == 302


def told():
    acts = AuditEntry.objects.order_by("pk").values_list("actor", "action", "subject", "address")
    return [(actor, action, subject) for actor, action, subject, address in acts if address == "192.0.2.1"]


def test_logins_are_in_the_audit_and_so_are_failed_ones_without_what_may_be_a_password(person):
    attempt("guess")
    attempt("guess", name="hunter2")
    attempt(PASSWORD)
    assert told() == [
        ("nobody logged in", "fail to log in", "user boss"),
        ("nobody logged in", "fail to log in", "no such user"),
        ("boss", "log in", "user boss"),
    ]


def test_the_audit_tells_once_that_an_address_is_throttled(person):
    guess(FAILURES + 3)
    assert [action for _, action, _ in told()] == [*["fail to log in"] * FAILURES, "throttle logins"]


# --- Other sites' pages --------------------------------------------------------------------------------


def fetched(path, **fetch_metadata):
    headers = {f"Sec-Fetch-{name}": value for name, value in fetch_metadata.items()}
    return Client(headers=headers).get(path).status_code


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("mode", "dest"),
    [
        ("no-cors", "image"),
        ("no-cors", "script"),
        ("cors", "empty"),
        ("navigate", "iframe"),
        ("navigate", "object"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/api/servers/", "/readyz", "/static/supervisor/css/base.css"]
)
def test_another_site_s_page_gets_nothing_in_the_background(site, mode, dest, path):
    assert fetched(path, Site=site, Mode=mode, Dest=dest) == 403


def test_a_link_on_another_site_may_be_followed():
    assert fetched("/", Site="cross-site", Mode="navigate", Dest="document") == 200


def test_a_form_of_another_site_is_refused_before_anybody_asks_for_its_token():
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    answer = Client(headers=headers).post(LOGIN)
    assert (answer.status_code, answer["Content-Type"]) == (403, "text/plain")


@pytest.mark.parametrize("headers", [{}, {"Site": "none", "Mode": "navigate"}, {"Site": "same-origin"}])
def test_our_own_pages_and_programs_ask_as_before(headers):
    assert fetched("/api/servers/", **headers) == 200
