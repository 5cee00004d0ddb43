"""Requests in quarantine on the page of past requests, and the button that releases them."""

from __future__ import annotations

import pytest
from django.test import Client

from supervisor_app.traffic.models import QuarantinedRequest
from tests.integration.building import make_ready_server
from tests.integration.pages.past_requests import (
    ALL,
    HTMX,
    PAGE,
    SERVER,
    put_in_quarantine,
    quarantined,
    words,
)

__all__ = ["quarantined"]  # fixtures

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("default")]


def release_url(entry):
    return f"{SERVER}quarantine/{entry.pk}/release"


def test_a_quarantined_request_is_shown_with_its_reason(staff_client, quarantined):
    shown = words(staff_client.get(PAGE))
    assert "This request has killed its server. Whoever sends it again gets an error instead." in shown
    assert "It died." in shown
    assert "run 3 · abababababab" in shown


def test_several_are_told_as_several(staff_client, quarantined):
    put_in_quarantine(body_hash="cd" * 32)
    shown = words(staff_client.get(PAGE))
    assert "These requests have killed their server. Whoever sends one of them again" in shown


def test_a_request_out_of_quarantine_or_of_another_server_is_not_shown(staff_client):
    put_in_quarantine(until=-1)
    put_in_quarantine(server="other")
    assert "quarantine" not in words(staff_client.get(PAGE))


def test_the_button_releases_and_the_part_shows_it(staff_client, quarantined):
    answer = staff_client.post(release_url(quarantined), **HTMX)
    assert "In quarantine" not in answer.content.decode()
    assert not QuarantinedRequest.objects.exists()


def test_without_script_the_button_leads_back_to_the_page(staff_client, quarantined):
    answer = staff_client.post(release_url(quarantined))
    assert (answer.status_code, answer["Location"]) == (302, PAGE)
    assert staff_client.post(release_url(quarantined), {"all": "1"})["Location"] == ALL


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
