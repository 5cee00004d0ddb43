"""The one gate of the API: each view says its methods and rights, the refusals are the same everywhere."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpResponse
from django.test import RequestFactory

from supervisor_app.api.endpoint import ACTS, READS, endpoint

STRANGER = AnonymousUser()
PERSON = User(username="person")
STAFF = User(username="staff", is_staff=True)
LOCKED_OUT = User(username="former", is_staff=True, is_active=False)


@pytest.fixture
def private(settings):
    settings.LLAMAPROXY_PUBLIC_STATUS = False


def ask(user, method="GET", methods=READS, *, staff=False):
    """Status and code of what a view behind the gate answers."""
    view = endpoint(methods, staff=staff)(lambda request: HttpResponse("{}"))
    request = RequestFactory().generic(method, "/")
    request.user = user
    answer = view(request)
    code = json.loads(answer.content)["error"]["code"] if answer.content.startswith(b'{"error"') else ""
    return answer.status_code, code


@pytest.mark.parametrize("user", [STRANGER, PERSON, STAFF])
def test_a_public_status_is_for_everybody(user, settings):
    settings.LLAMAPROXY_PUBLIC_STATUS = True
    assert ask(user) == (200, "")


@pytest.mark.parametrize(
    ("user", "expected"),
    [(STRANGER, (401, "login_required")), (PERSON, (401, "login_required")), (STAFF, (200, ""))],
)
def test_a_private_status_is_for_staff(user, expected, private):
    assert ask(user) == expected


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (STRANGER, (401, "login_required")),
        (PERSON, (403, "not_staff")),
        (LOCKED_OUT, (403, "not_staff")),
        (STAFF, (200, "")),
    ],
)
def test_a_view_for_staff_is_refused_to_all_others(user, expected):
    assert ask(user, staff=True) == expected


@pytest.mark.parametrize(
    ("method", "methods", "status"),
    [
        ("GET", READS, 200),
        ("HEAD", READS, 200),
        ("POST", READS, 405),
        ("GET", ACTS, 405),
        ("POST", ACTS, 200),
    ],
)
def test_a_view_takes_its_methods_only(method, methods, status):
    assert ask(STAFF, method, methods, staff=True)[0] == status


def test_the_method_is_looked_at_before_the_rights():
    assert ask(STRANGER, "GET", ACTS, staff=True)[0] == 405


def test_an_answer_of_the_api_is_never_cached():
    view = endpoint()(lambda request: HttpResponse())
    request = RequestFactory().get("/")
    request.user = STAFF
    assert "no-store" in view(request)["Cache-Control"]
