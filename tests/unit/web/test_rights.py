"""Roles and their rights: `supervisor_app.web.rights`."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied

from supervisor_app.web.rights import Right, Rights, Role, may, refuse_without, role_by, why_not

MEMBERS = [(), ("viewer",), ("operator",), ("admin",)]


def account(*groups, **flags):
    user = User(username="somebody", **flags)
    user.names_of_groups = frozenset(groups)
    return user


def role(*groups, is_active=True, is_staff=False, is_superuser=False):
    return role_by(groups, is_active=is_active, is_staff=is_staff, is_superuser=is_superuser)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ((), None),
        (("clerks",), None),
        (("viewer",), Role.VIEWER),
        (("operator", "viewer"), Role.OPERATOR),
        (("viewer", "admin", "clerks"), Role.ADMIN),
    ],
)
def test_the_highest_of_the_groups_is_the_role(groups, expected):
    assert role(*groups) is expected


def test_staff_in_no_group_of_a_role_may_what_they_could_before_there_were_roles():
    assert role(is_staff=True) is role("clerks", is_staff=True) is Role.ADMIN


def test_staff_in_a_group_of_a_role_has_that_role():
    assert role("viewer", is_staff=True) is Role.VIEWER


@pytest.mark.parametrize("groups", MEMBERS)
def test_a_superuser_is_an_admin_in_whatever_group(groups):
    assert role(*groups, is_superuser=True) is Role.ADMIN


@pytest.mark.parametrize("groups", MEMBERS)
def test_an_account_that_is_switched_off_has_no_role(groups):
    assert role(*groups, is_active=False, is_staff=True, is_superuser=True) is None


def test_each_role_may_what_the_one_before_may_and_more():
    assert Role.VIEWER.rights < Role.OPERATOR.rights < Role.ADMIN.rights == frozenset(Right)


@pytest.mark.parametrize(("public", "expected"), [(True, {"enter", "read"}), (False, {"enter"})])
def test_a_stranger_may_read_while_the_status_is_public(public, expected, settings):
    settings.LLAMAPROXY_PUBLIC_STATUS = public
    assert {right.value for right in Right if may(AnonymousUser(), right)} == expected


def test_an_account_without_a_role_is_a_stranger_with_a_password_of_its_own(settings):
    settings.LLAMAPROXY_PUBLIC_STATUS = False
    assert {right for right in Right if may(account(), right)} == {Right.ENTER, Right.OWN}


@pytest.mark.parametrize(
    ("user", "right", "sentence"),
    [
        (AnonymousUser(), Right.LOOK, "This needs a login."),
        (account(), Right.LOOK, "Your account has no role. Ask an admin for viewer."),
        (
            account("viewer"),
            Right.OPERATE,
            "Your role viewer may look, not act. Ask an admin for operator.",
        ),
        (
            account("viewer"),
            Right.ADMINISTER,
            "Your role viewer may look, not act. Ask an admin for admin.",
        ),
        (
            account("operator"),
            Right.ADMINISTER,
            "Your role operator may not change what is set up. Ask an admin for admin.",
        ),
    ],
)
def test_a_refusal_says_what_is_missing_and_whom_to_ask(user, right, sentence):
    assert why_not(user, right) == sentence
    with pytest.raises(PermissionDenied, match=sentence):
        refuse_without(user, right)


def test_a_template_asks_for_a_right_by_its_name():
    rights = Rights(account("operator"))
    assert (rights.operate, rights.administer) == (True, False)
    with pytest.raises(AttributeError):
        assert rights.fly
