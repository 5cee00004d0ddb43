"""The one gate of the API: each view says its methods and rights, the refusals are the same everywhere."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpResponse
from django.test import RequestFactory

from supervisor_app.api.endpoint import endpoint
from supervisor_app.web.rights import ACTS, READS, Right, Role

STRANGER = AnonymousUser()
PERSON = User(username="person")
PERSON.names_of_groups = frozenset()
VIEWER = User(username="viewer")
VIEWER.names_of_groups = frozenset({Role.VIEWER})
STAFF = User(username="staff", is_staff=True)
STAFF.names_of_groups = frozenset()
LOCKED_OUT = User(username="former", is_staff=True, is_active=False)


@pytest.fixture
def private(settings):
    settings.LLAMAPROXY_PUBLIC_STATUS = False


def ask(user, method="GET", methods=READS, *, right=Right.READ):
    """Status and code of what a view behind the gate answers."""
    view = endpoint(right, methods)(lambda request: HttpResponse("{}"))
    request = RequestFactory().generic(method, "/")
    request.user = user
    answer = view(request)
    code = json.loads(answer.content)["error"]["code"] if answer.content.startswith(b'{"error"') else ""
    return answer.status_code, code


@pytest.mark.parametrize("user", [STRANGER, PERSON, VIEWER, STAFF])
def test_a_public_status_is_for_everybody(user, settings):
    settings.LLAMAPROXY_PUBLIC_STATUS = True
    assert ask(user) == (200, "")


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (STRANGER, (401, "login_required")),
        (PERSON, (403, "forbidden")),
        (VIEWER, (200, "")),
        (STAFF, (200, "")),
    ],
)
def test_a_private_status_is_for_those_with_a_role(user, expected, private):
    assert ask(user) == expected


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (STRANGER, (401, "login_required")),
        (PERSON, (403, "forbidden")),
        (VIEWER, (403, "forbidden")),
        (LOCKED_OUT, (403, "forbidden")),
        (STAFF, (200, "")),
    ],
)
def test_a_view_for_operators_is_refused_to_all_others(user, expected):
    assert ask(user, right=Right.OPERATE) == expected


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
    assert ask(STAFF, method, methods, right=Right.OPERATE)[0] == status


def test_the_method_is_looked_at_before_the_rights():
    assert ask(STRANGER, "GET", ACTS, right=Right.OPERATE)[0] == 405


def test_an_answer_of_the_api_is_never_cached():
    view = endpoint()(lambda request: HttpResponse())
    request = RequestFactory().get("/")
    request.user = STAFF
    assert "no-store" in view(request)["Cache-Control"]
