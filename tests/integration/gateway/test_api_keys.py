"""API keys as the gateways load them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from supervisor_app.gateway.access.keys import KeyPolicy
from supervisor_app.gateway.edge import api_keys
from tests.integration.building import make_key

pytestmark = pytest.mark.django_db


def test_a_key_is_loaded_with_all_that_limits_it():
    expires = timezone.now() + timedelta(days=1)
    key = make_key(
        enabled=False,
        expires_at=expires,
        allowed_models=["a", "b"],
        requests_per_minute=1,
        tokens_per_minute=2,
        max_concurrent=3,
        capture=True,
    )
    assert api_keys.load() == [
        KeyPolicy(
            id=key.pk,
            name="chat",
            digest=bytes.fromhex(key.digest),
            enabled=False,
            expires_at=expires.timestamp(),
            models=frozenset({"a", "b"}),
            requests_per_minute=1,
            tokens_per_minute=2,
            max_concurrent=3,
            capture=True,
        )
    ]


@pytest.mark.parametrize(
    ("rights", "scopes"),
    [
        ({}, {"inference"}),
        ({"may_read": True}, {"inference", "read"}),
        ({"may_change": True}, {"inference", "read", "change"}),
    ],
)
def test_a_key_may_ask_models_and_what_else_it_says(rights, scopes):
    make_key(**rights)
    (policy,) = api_keys.load()
    assert policy.scopes == scopes


def test_a_key_is_limited_to_the_endpoints_of_its_row():
    make_key(allowed_families=["chat", "models"])
    (policy,) = api_keys.load()
    assert policy.families == {"chat", "models"}


def test_a_key_without_an_end_never_expires():
    make_key()
    (policy,) = api_keys.load()
    assert (policy.expires_at, policy.models) == (None, frozenset())
