"""Single sign-on as it is set up, and roles and names as claims say them."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from supervisor_app.web.rights import Role
from supervisor_app.web.sign_on import name_from, role_from, sign_on_of

NOTHING = dict.fromkeys(
    ("issuer", "client_id", "client_secret", "roles", "others", "groups_claim", "scopes", "label"), ""
)
WHOLE = NOTHING | {
    "issuer": "https://id.example.org",
    "client_id": "llamaproxy",
    "client_secret": "very-secret",
    "roles": "llama-admins=admin, cn=staff = viewer",
}


def read(**said):
    return sign_on_of(**{**WHOLE, "is_installed": True, **said})


def test_nothing_set_is_off_also_without_the_extra():
    assert sign_on_of(**NOTHING, is_installed=False) is None


def test_variables_that_are_not_needed_have_defaults():
    sign_on = read()
    assert dict(sign_on.roles) == {"llama-admins": Role.ADMIN, "cn=staff": Role.VIEWER}
    assert (sign_on.others, sign_on.groups_claim, sign_on.scopes, sign_on.label) == (
        None,
        "groups",
        "openid profile email",
        "single sign-on",
    )


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"issuer": ""}, "LLAMAPROXY_SSO_ISSUER is not set"),
        ({"client_id": ""}, "LLAMAPROXY_SSO_CLIENT_ID is not set"),
        ({"client_secret": ""}, "LLAMAPROXY_SSO_CLIENT_SECRET is not set"),
        ({**NOTHING, "label": "Example"}, "LLAMAPROXY_SSO_ISSUER is not set"),
        ({"issuer": "http://id.example.org"}, "LLAMAPROXY_SSO_ISSUER='http://id.example.org' is no address"),
        ({"issuer": "https://[id"}, "LLAMAPROXY_SSO_ISSUER='https://[id' is no address"),
        ({"roles": ""}, "LLAMAPROXY_SSO_ROLES is not set: nobody could log in"),
        ({"roles": "staff"}, "LLAMAPROXY_SSO_ROLES='staff' cannot be understood"),
        ({"roles": "staff=boss"}, "a role is viewer, operator, admin"),
        ({"others": "boss"}, "LLAMAPROXY_SSO_OTHERS='boss' is no role. Use one of none, viewer"),
        ({"scopes": "email"}, "LLAMAPROXY_SSO_SCOPES='email' lacks openid"),
        ({"is_installed": False}, "pip install 'llamaproxy[sso]'"),
    ],
)
def test_a_mistake_names_its_variable(said, sentence):
    with pytest.raises(ImproperlyConfigured) as told:
        read(**said)
    assert sentence in str(told.value)
    assert "very-secret" not in str(told.value)


def test_the_secret_is_not_shown_with_the_rest():
    assert "very-secret" not in repr(read())


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"groups": ["staff", "admins", "cooks"]}, Role.ADMIN),
        ({"groups": ["staff"]}, Role.VIEWER),
        ({"groups": "staff"}, Role.VIEWER),
        ({"groups": ["cooks"]}, None),
        ({"groups": {"admins": True}}, None),
        ({"groups": [["admins"], 1]}, None),
        ({}, None),
    ],
)
def test_the_highest_role_of_the_groups_counts(claims, role):
    sign_on = read(roles="staff=viewer,admins=admin")
    assert role_from(claims, sign_on) is role


def test_others_have_the_role_that_is_set_for_them():
    assert role_from({"groups": ["cooks"]}, read(others="viewer")) is Role.VIEWER


@pytest.mark.parametrize(
    ("claim", "claims"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["staff"]}}),
        ("https://example.org/groups", {"https://example.org/groups": ["staff"]}),
    ],
)
def test_the_claim_of_groups_may_lie_in_another_or_be_an_address(claim, claims):
    assert role_from(claims, read(roles="staff=operator", groups_claim=claim)) is Role.OPERATOR


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": "ada", "email": "a@example.org", "email_verified": True}, "ada"),
        ({"email": "a@example.org", "email_verified": True}, "a@example.org"),
        ({"email": "a@example.org", "email_verified": "true"}, "auth0-17"),
        ({"email": "a@example.org"}, "auth0-17"),
        ({"preferred_username": ""}, "auth0-17"),
        ({"preferred_username": "Ada <Lovelace>"}, "Ada-Lovelace-"),
        ({"preferred_username": "x" * 200}, "x" * 150),
    ],
)
def test_a_new_account_is_named_by_the_preferred_name_a_verified_address_or_the_subject(claims, name):
    assert name_from({"sub": "auth0|17", **claims}) == name
