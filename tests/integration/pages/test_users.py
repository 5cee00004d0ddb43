"""The page of users: who may what, given and taken away."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from supervisor_app.fleet.models import AuditEntry, LoginLink

pytestmark = pytest.mark.django_db

GOOD = {"new_password1": "correct-horse-battery", "new_password2": "correct-horse-battery"}


def member(name, role, **more):
    user = User.objects.create_user(name, password="of-them-all", **more)
    user.groups.add(Group.objects.get(name=role))
    return user


def client_of(user):
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def ada():
    return member("ada", "admin")


@pytest.fixture
def admin(ada):
    return client_of(ada)


@pytest.fixture
def bob():
    return member("bob", "viewer")


def acts():
    return list(AuditEntry.objects.order_by("pk").values_list("actor", "action", "subject"))


def roles_told():
    """Roles before and after each act that changed something."""
    entries = AuditEntry.objects.order_by("pk")
    return [(each.before["role"], each.after["role"]) for each in entries if each.before and each.after]


def link_in(answer):
    return re.findall(r"http://testserver(/login/[^<]+/)", answer.text)[0]


def role_shown(admin, name):
    page = admin.get("/users/").text
    (row,) = re.findall(rf'<a[^>]*>{name}</a>.*?data-label="Role">(.*?)</td>', page)
    return re.sub(r"<[^>]+>", " ", row).split()


def test_each_account_is_listed_with_its_role(admin, bob):
    User.objects.create_superuser("root")
    User.objects.create_user("clerk", is_staff=True)
    User.objects.create_user("guest")
    names = ("ada", "bob", "root", "clerk", "guest")
    assert [role_shown(admin, name)[0] for name in names] == ["admin", "viewer", "admin", "admin", "none"]
    assert role_shown(admin, "clerk")[1:] == ["staff", "without", "a", "role"]


def test_a_new_user_chooses_a_password_by_a_link_that_works_once(admin):
    link = link_in(admin.post("/users/add", {"name": "eve", "role": "operator"}))
    eve = Client()
    assert "Log in as eve" in eve.get(link).text
    assert eve.post(link)["Location"] == "/password/"
    assert eve.post("/password/", GOOD)["Location"] == "/"
    assert Client().post(link).status_code == 410
    assert eve.get("/requests/").status_code == 200
    assert eve.get("/users/").status_code == 403
    assert acts() == [
        ("ada", "add", "user eve"),
        ("eve", "log in", "user eve"),
        ("eve", "set the password of", "user eve"),
    ]


@pytest.mark.parametrize(
    ("name", "said"), [("bob", "already exists"), ("b o b", "valid username"), ("", "required")]
)
def test_a_name_that_cannot_be_is_explained_and_nothing_is_added(name, said, admin, bob):
    answer = admin.post("/users/add", {"name": name, "role": "viewer"})
    assert answer.status_code == 400
    assert said in answer.text
    assert User.objects.count() == 2


def test_a_role_is_given_and_the_one_before_taken(admin, bob):
    admin.post(f"/users/{bob.pk}/role", {"role": "operator"})
    assert [group.name for group in bob.groups.all()] == ["operator"]
    assert roles_told() == [("viewer", "operator")]


def test_a_group_that_is_no_role_is_kept(admin, bob):
    bob.groups.add(Group.objects.create(name="clerks"))
    admin.post(f"/users/{bob.pk}/role", {"role": "admin"})
    assert {group.name for group in bob.groups.all()} == {"admin", "clerks"}


def test_a_user_that_is_switched_off_is_logged_out_at_once_and_let_in_again_later(admin, bob):
    there = client_of(bob)
    admin.post(f"/users/{bob.pk}/switch")
    assert there.get("/requests/").status_code == 302
    admin.post(f"/users/{bob.pk}/switch", {"on": "1"})
    assert there.get("/requests/").status_code == 200
    assert [action for _, action, _ in acts()] == ["switch off", "switch on"]


def test_a_new_link_ends_the_password_and_all_logins(admin, bob):
    there = client_of(bob)
    first = link_in(admin.post(f"/users/{bob.pk}/link"))
    second = link_in(admin.post(f"/users/{bob.pk}/link"))
    assert there.get("/requests/").status_code == 302
    assert not User.objects.get(pk=bob.pk).has_usable_password()
    assert [Client().get(link).status_code for link in (first, second)] == [410, 200]


def test_a_link_that_takes_something_away_is_asked_about_first(admin, bob):
    bob.set_password("of-his-own")
    bob.save()
    assert (
        "The password is taken away and all logins of this user end." in admin.get(f"/users/{bob.pk}/").text
    )
    admin.post(f"/users/{bob.pk}/link")
    assert "A link that was made before works no more" in admin.get(f"/users/{bob.pk}/").text


def test_the_link_of_a_user_that_is_switched_off_does_not_work(admin, bob):
    link = link_in(admin.post(f"/users/{bob.pk}/link"))
    admin.post(f"/users/{bob.pk}/switch")
    assert Client().post(link).status_code == 410
    assert LoginLink.objects.get().used_at is None


@pytest.mark.parametrize("path", ["role", "switch", "link"])
def test_nobody_changes_the_own_account_so_that_there_is_always_an_admin(path, ada, admin):
    answer = admin.post(f"/users/{ada.pk}/{path}", {"role": "viewer"})
    assert answer.status_code == 409
    assert "ask another admin" in answer.text
    assert admin.get("/users/").status_code == 200


@pytest.mark.parametrize("path", ["role", "switch", "link"])
def test_an_admin_does_not_get_at_the_account_of_a_superuser(path, admin):
    root = User.objects.create_superuser("root", password="of-them-all")
    answer = admin.post(f"/users/{root.pk}/{path}", {"role": "viewer"})
    assert answer.status_code == 409
    assert User.objects.get(pk=root.pk).check_password("of-them-all")
    assert acts() == []


def test_a_role_takes_nothing_from_a_superuser(staff_client):
    root = User.objects.create_superuser("root")
    answer = staff_client.post(f"/users/{root.pk}/role", {"role": "viewer"})
    assert "no role takes anything away" in answer.text


@pytest.mark.parametrize("role", ["", "king"])
def test_a_role_that_does_not_exist_is_refused(role, admin, bob):
    assert admin.post(f"/users/{bob.pk}/role", {"role": role}).status_code == 409
    assert [group.name for group in bob.groups.all()] == ["viewer"]


# --- Django's admin ---


def test_accounts_changed_in_django_s_admin_are_in_the_audit(staff_client, bob):
    path = f"/admin/auth/user/{bob.pk}/"
    form = {"username": "bob", "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00", "is_active": "on"}
    groups = [Group.objects.get(name="operator").pk]
    assert staff_client.post(f"{path}change/", {**form, "groups": groups}).status_code == 302
    staff_client.post(f"{path}delete/", {"post": "yes"})
    assert acts() == [("boss", "configure", "user bob"), ("boss", "delete", "user bob")]
    assert roles_told() == [("viewer", "operator")]


def test_no_right_to_change_users_makes_a_superuser(bob, client):
    clerk = member("clerk", "admin")
    clerk.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "change_user"]))
    root = User.objects.create_superuser("root")
    client.force_login(clerk)
    form = {
        "username": "clerk",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
        "is_active": "on",
    }
    client.post(f"/admin/auth/user/{clerk.pk}/change/", {**form, "is_superuser": "on", "is_staff": "on"})
    assert not User.objects.get(pk=clerk.pk).is_superuser
    assert client.get(f"/admin/auth/user/{root.pk}/password/").status_code in (302, 403, 404)
    assert "root" not in client.get("/admin/auth/user/").text
