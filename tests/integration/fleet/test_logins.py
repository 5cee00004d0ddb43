"""The one-time login link of a fresh installation."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from supervisor_app.fleet.logins import FIRST_USER, VALID_FOR, new_login_token, redeem, unused_link
from supervisor_app.fleet.models import LoginLink

pytestmark = pytest.mark.django_db


def url(token):
    return f"/login/{token}/"


@pytest.fixture
def token():
    return new_login_token()


# --- Another one ---


def printed(caplog):
    return re.findall(r"First login, works once: (\S+)", caplog.text)


def test_a_person_who_left_before_choosing_a_password_finds_another_link(token, client, caplog):
    caplog.set_level("INFO")
    client.post(url(token))
    client.post("/admin/logout/")
    Client().get("/admin/login/")
    (link,) = printed(caplog)
    assert Client().post(link.removeprefix("http://testserver")).status_code == 302


def test_while_a_link_works_or_somebody_can_log_in_none_is_printed(token, client, caplog):
    caplog.set_level("INFO")
    client.get("/admin/login/")
    assert printed(caplog) == []
    client.post(url(token))
    User.objects.update(password="pbkdf2$1$x$y")
    LoginLink.objects.all().delete()
    client.get("/admin/login/")
    assert printed(caplog) == []


@pytest.mark.parametrize("who", [{"is_staff": False}, {"is_staff": True, "is_active": False}])
def test_a_user_who_is_no_staff_or_locked_leaves_the_link_alone(who):
    User.objects.create_user("visitor", password="something-long", **who)
    assert new_login_token() is not None


@pytest.mark.parametrize("who", [{"is_staff": False}, {"is_staff": True, "is_active": False}])
def test_an_account_that_is_there_gains_nothing_by_the_link(who, client):
    User.objects.create_user(FIRST_USER, password="something-long", **who)
    assert client.post(url(new_login_token())).status_code == 302
    assert client.get("/admin/").status_code == 200
    old = User.objects.get(username=FIRST_USER)
    assert (old.is_superuser, old.is_active) == (False, who.get("is_active", True))
    assert User.objects.get(is_superuser=True).username == f"{FIRST_USER}-2"


# --- The link ------------------------------------------------------------------------------------------


def test_the_link_logs_its_first_user_in_with_every_right(token, client):
    answer = client.post(url(token))
    assert (answer.status_code, answer["Location"]) == (302, "/password/")
    user = User.objects.get()
    assert (user.username, user.is_staff, user.is_superuser) == (FIRST_USER, True, True)
    assert not user.has_usable_password()
    assert client.get("/admin/").status_code == 200


def test_looking_at_the_link_does_not_spend_it(token, client):
    for _ in range(3):
        answer = client.get(url(token))
        assert (answer.status_code, client.head(url(token)).status_code) == (200, 200)
    assert "works once" in answer.content.decode()
    assert not User.objects.exists()
    assert client.post(url(token)).status_code == 302


def test_the_link_works_once(token, client):
    client.post(url(token))
    other = Client()
    assert other.get(url(token)).status_code == 410
    assert other.post(url(token)).status_code == 410
    assert "_auth_user_id" not in other.session


def test_the_link_does_not_work_after_somebody_has_made_a_user(token, client):
    """It would be a way round their password."""
    User.objects.create_superuser(FIRST_USER, password="of-them-all")
    assert not unused_link(token)
    assert client.get(url(token)).status_code == 410
    assert client.post(url(token)).status_code == 410
    assert "_auth_user_id" not in client.session


def test_the_link_works_for_a_day(token):
    LoginLink.objects.update(created_at=timezone.now() - VALID_FOR + timedelta(minutes=1))
    assert unused_link(token)
    LoginLink.objects.update(created_at=timezone.now() - VALID_FOR - timedelta(minutes=1))
    assert not unused_link(token)
    assert redeem(token) is None


def test_a_new_link_ends_the_older_one(token):
    newer = new_login_token()
    assert not unused_link(token)
    assert unused_link(newer)


@pytest.mark.parametrize("guess", ["x", "0" * 43, "%00", "..", "é"])
def test_a_guess_does_not_work(guess, token, client):
    assert client.post(url(guess)).status_code == 410
    assert not User.objects.exists()


def test_with_a_user_there_is_no_link():
    User.objects.create_superuser("somebody", password="of-them-all")
    assert new_login_token() is None
    assert not LoginLink.objects.exists()


def test_the_token_itself_is_not_stored(token):
    assert token not in str(LoginLink.objects.values_list())


def test_tokens_cannot_be_guessed():
    assert len({new_login_token() for _ in range(10)}) == 10
    assert len(new_login_token()) >= 43, "256 bits"


def test_the_link_needs_the_csrf_token(token):
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(url(token)).status_code == 403
    strict.get(url(token))
    data = {"csrfmiddlewaretoken": strict.cookies["csrftoken"].value}
    assert strict.post(url(token), data).status_code == 302


def test_pages_with_a_link_are_never_cached(token, client):
    assert "no-store" in client.get(url(token))["Cache-Control"]


@pytest.mark.django_db(transaction=True)
def test_a_login_link_that_two_people_use_at_once_lets_one_of_them_in(token):
    at_once = threading.Barrier(2)

    def press():
        at_once.wait(5)
        try:
            return redeem(token)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        users = [future.result() for future in [threads.submit(press) for _ in range(2)]]
    assert sum(user is not None for user in users) == 1
    assert User.objects.count() == 1


# --- The password --------------------------------------------------------------------------------------


@pytest.fixture
def newcomer(token, client):
    """Came by the link, has no password yet."""
    client.post(url(token))
    return client


GOOD = {"new_password1": "correct-horse-battery", "new_password2": "correct-horse-battery"}


def test_the_first_user_chooses_a_password_and_stays_logged_in(newcomer):
    answer = newcomer.post("/password/", GOOD, follow=True)
    assert answer.redirect_chain == [("/", 302)]
    assert "The password is set." in answer.content.decode()
    assert newcomer.get("/admin/").status_code == 200
    typed = {"username": FIRST_USER, "password": "correct-horse-battery"}
    assert Client().post("/admin/login/", typed).status_code == 302


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "required"),
        (GOOD | {"new_password2": "other"}, "didn’t match"),
        ({"new_password1": "password", "new_password2": "password"}, "too common"),
        ({"new_password1": "x7-q", "new_password2": "x7-q"}, "too short"),
    ],
)
def test_a_bad_password_is_refused_with_the_reason(data, message, newcomer):
    answer = newcomer.post("/password/", data)
    assert answer.status_code == 200
    assert message in answer.content.decode()
    assert not User.objects.get().has_usable_password()


def test_the_password_page_is_for_those_who_are_logged_in(client):
    answer = client.get("/password/")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/login/?next=/password/")


def test_a_person_who_has_a_password_changes_it_with_the_old_one(staff_client):
    assert "Old password" in staff_client.get("/password/").text
    staff_client.post("/password/", GOOD | {"old_password": "guess"})
    assert User.objects.get().check_password("of-them-all")
    assert staff_client.post("/password/", GOOD | {"old_password": "of-them-all"})["Location"] == "/"
    assert User.objects.get().check_password(GOOD["new_password1"])
    assert staff_client.get("/password/").status_code == 200


def test_a_person_who_left_before_choosing_a_password_is_let_in_by_the_next_link():
    assert redeem(new_login_token()).username == FIRST_USER
    again = redeem(new_login_token())
    assert again.username == FIRST_USER
    assert User.objects.count() == 1
    again.set_password("correct-horse-battery")
    again.save()
    assert new_login_token() is None
