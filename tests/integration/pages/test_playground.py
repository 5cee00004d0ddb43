"""The playground: for staff, with a policy that lets the page ask the gateway, and keys that end by themselves."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.utils import timezone

from supervisor_app.gateway.access.keys import digest_of
from supervisor_app.gateway.edge import ledger
from supervisor_app.traffic.models import ApiKey
from tests.integration.building import make_key, make_record

pytestmark = pytest.mark.django_db

PATH, KEY, PHASES = "/playground/", "/playground/key", "/playground/phases"


@pytest.fixture
def key_maker(client, django_user_model):
    """A member of the staff who may make keys."""
    alice = django_user_model.objects.create_user("alice", is_staff=True)
    alice.user_permissions.add(Permission.objects.get(codename="add_apikey"))
    client.force_login(alice)
    return client


@pytest.mark.parametrize("path", [PATH, PHASES])
def test_a_stranger_is_sent_to_the_login(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={path}")


@pytest.mark.parametrize("path", [PATH, PHASES])
def test_somebody_who_is_no_staff_is_refused(client, django_user_model, path):
    client.force_login(django_user_model.objects.create_user("reader"))
    assert client.get(path).status_code == 403


@pytest.mark.parametrize("staff", [None, False, True])
def test_no_key_is_made_for_those_who_may_make_none(client, django_user_model, staff):
    if staff is not None:
        client.force_login(django_user_model.objects.create_user("bob", is_staff=staff))
    make_key()
    assert client.post(KEY).status_code == 403
    assert ApiKey.objects.count() == 1


def test_the_page_may_connect_to_the_gateway_alone(admin_client, settings):
    settings.LLAMAPROXY_GATEWAY_URL = "https://llama.example:8443/behind/"
    answer = admin_client.get(PATH)
    assert 'data-gateway="https://llama.example:8443/behind"' in answer.content.decode()
    assert "connect-src 'self' https://llama.example:8443;" in answer["Content-Security-Policy"]


def test_other_pages_may_not_connect_to_the_gateway(admin_client, settings):
    settings.LLAMAPROXY_GATEWAY_URL = "https://llama.example"
    assert "llama.example" not in admin_client.get("/")["Content-Security-Policy"]


def test_a_gateway_of_another_process_is_sought_on_the_host_of_the_page(admin_client, settings):
    settings.LLAMAPROXY_GATEWAY_URL = ""
    page = admin_client.get(PATH, headers={"host": "testserver:8000"}).content.decode()
    assert 'data-gateway="http://testserver:8001"' in page


def test_the_first_key_is_not_made_here_for_it_would_shut_out_all_others(key_maker):
    assert key_maker.post(KEY).json() == {"key": ""}
    assert not ApiKey.objects.exists()


def test_a_key_for_the_browser_is_good_for_twelve_hours_and_may_only_ask(key_maker):
    make_key()
    before = timezone.now()
    secret = key_maker.post(KEY).json()["key"]
    made = ApiKey.objects.get(name="Playground of alice")
    assert bytes.fromhex(made.digest) == digest_of(secret)
    assert timedelta(hours=12) <= made.expires_at - before < timedelta(hours=12, minutes=5)
    assert made.scopes == {"inference"}


def test_a_second_key_takes_the_place_of_the_first(key_maker):
    make_key()
    first, second = (key_maker.post(KEY).json()["key"] for _ in range(2))
    assert first != second
    made = ApiKey.objects.get(name="Playground of alice")
    assert bytes.fromhex(made.digest) == digest_of(second)


def test_the_phases_of_a_request_are_those_of_its_record(admin_client):
    now = time.time()
    ledger.write(
        [
            make_record(id="one", at=now, held_ms=30.0, load_ms=20.0, ttft_ms=50.0, duration_ms=90.0),
            make_record(id="other", at=now),
            make_record(id="old", at=now - 7200),
        ]
    )
    told = admin_client.get(PHASES, {"id": ["one", "old", "unknown"]}).json()
    assert list(told) == ["one"]
    assert (told["one"]["held_ms"], told["one"]["load_ms"], told["one"]["duration_ms"]) == (30.0, 20.0, 90.0)
