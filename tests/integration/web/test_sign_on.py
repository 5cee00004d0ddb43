"""Single sign-on, from the login page to a role and back, with a provider of this process."""

from __future__ import annotations

import time
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from supervisor_app.common.sub_path import script_prefix
from supervisor_app.fleet.models import AuditEntry
from supervisor_app.web.rights import Role, role_of
from supervisor_app.web.sign_on import SignOn
from tests.integration.provider import CLIENT, SECRET, key, provider_of_logins

pytestmark = pytest.mark.django_db

BACKEND = "supervisor_app.fleet.sign_on.SignOnBackend"
ADA = {"preferred_username": "ada", "groups": ["operators"]}
FROM_ELSEWHERE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.fixture
def provider(settings):
    cache.clear()  # addresses of another provider, failures of another test
    with provider_of_logins() as provider:
        settings.AUTHENTICATION_BACKENDS = [*settings.AUTHENTICATION_BACKENDS, BACKEND]
        settings.LLAMAPROXY_SSO = SignOn(
            issuer=provider.url,
            client_id=CLIENT,
            client_secret=SECRET,
            roles={"staff": Role.VIEWER, "operators": Role.OPERATOR, "admins": Role.ADMIN},
            label="Example ID",
        )
        yield provider
    cache.clear()


def begin(client, then="/requests/"):
    return client.get("/sso/login", {"next": then})


def sign_on(client, provider, then="/requests/", **claims):
    back = provider.approve(begin(client, then)["Location"], {**ADA, **claims})
    return client.get("/sso/callback", back, headers=FROM_ELSEWHERE)


def answers_once(client, provider):
    """See the provider answer: what it does next is news for the log. Its addresses are asked for again."""
    assert begin(client)["Location"].startswith(provider.url)
    cache.clear()


def sentence(client, answer):
    """The error on the login page to which an answer leads."""
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/?next=")
    return client.get(answer["Location"]).text.split('<li class="error">')[1].split("</li>")[0]


def acts():
    return list(AuditEntry.objects.order_by("pk").values_list("actor", "action", "subject"))


def is_logged_in(client):
    return "_auth_user_id" in client.session


@pytest.mark.parametrize(
    ("groups", "role"),
    [(["staff"], "viewer"), (["operators", "staff"], "operator"), (["admins"], "admin")],
)
def test_a_login_gives_the_role_of_the_groups_and_is_in_the_audit(client, provider, groups, role):
    answer = sign_on(client, provider, groups=groups)
    assert (answer.status_code, answer["Location"]) == (302, "/requests/")
    assert client.get("/requests/").status_code == 200
    ada = User.objects.get(username="ada")
    assert (role_of(ada), ada.has_usable_password(), ada.is_staff) == (role, False, False)
    assert acts() == [("single sign-on", "add", "user ada"), ("ada", "log in", "user ada")]


def test_the_login_page_has_both_ways_in_and_the_password_works_on(client, provider):
    User.objects.create_superuser("root", password="of-this-machine")
    page = client.get("/admin/login/?next=/requests/")
    assert 'href="/sso/login?next=%2Frequests%2F">Log in with Example ID</a>' in page.text
    assert 'name="password"' in page.text
    client.post("/admin/login/?next=/requests/", {"username": "root", "password": "of-this-machine"})
    assert is_logged_in(client)


def test_the_provider_is_asked_with_state_nonce_and_proof_and_gets_the_secret_alone(client, provider):
    sent = begin(client)
    assert sent["Location"].startswith(f"{provider.url}/authorize?kind=web&response_type=code")
    asked = dict(parse_qsl(urlsplit(sent["Location"]).query))
    assert asked["redirect_uri"] == "http://testserver/sso/callback"
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["state"]) == len(asked["nonce"]) == 32
    client.get("/sso/callback", provider.approve(sent["Location"], ADA))
    assert provider.posts[0]["code_verifier"] not in sent["Location"]
    assert SECRET not in str(sent.headers) + str(provider.posts) + str(client.cookies)


def test_a_role_is_set_anew_by_each_login(client, provider):
    sign_on(client, provider, groups=["admins"])
    User.objects.update(is_staff=True)
    sign_on(Client(), provider, groups=["staff"])
    assert client.get("/users/").status_code == 403
    given = AuditEntry.objects.get(action="give role")
    told = given.actor, (given.before or {})["role"], (given.after or {})["role"]
    assert told == ("single sign-on", "admin", "viewer")


def test_groups_without_a_role_take_the_role_away_and_let_nobody_in(client, provider):
    sign_on(client, provider)
    other = Client()
    assert "None of your groups has a role" in sentence(other, sign_on(other, provider, groups=["cooks"]))
    assert not is_logged_in(other)
    assert client.get("/requests/").status_code == 403
    assert acts()[-2:] == [
        ("single sign-on", "give role", "user ada"),
        ("nobody logged in", "fail to log in", "single sign-on"),
    ]


def test_strangers_without_a_role_get_no_account(client, provider):
    assert "None of your groups" in sentence(client, sign_on(client, provider, groups=[]))
    assert not User.objects.exists()


def test_groups_that_are_told_beside_the_token_count(client, provider):
    provider.userinfo = {"groups": ["admins"]}
    sign_on(client, provider, groups=None)
    assert role_of(User.objects.get()) is Role.ADMIN


def test_claims_of_another_person_are_refused(client, provider):
    provider.userinfo = {"sub": "18"}
    assert "does not hold" in sentence(client, sign_on(client, provider))


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"exp": time.time() - 3600},
        {"exp": None},
        {"aud": "another-client"},
        {"iss": "https://another.example.org"},
        {"azp": "another-client"},
        {"sub": None},
        {"sub": "x" * 256},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_token_with_a_wrong_claim_is_refused(client, provider, wrong):
    assert "does not hold" in sentence(client, sign_on(client, provider, **wrong))
    assert not User.objects.exists()
    assert acts() == [("nobody logged in", "fail to log in", "single sign-on")]


@pytest.mark.parametrize(
    ("algorithm", "signer"),
    [("RS256", "another"), ("HS256", SECRET * 2), ("none", None)],
    ids=["another key", "the secret", "nobody"],
)
def test_a_token_that_the_provider_has_not_signed_is_refused(client, provider, algorithm, signer):
    provider.algorithm, provider.signer = algorithm, key("another") if algorithm == "RS256" else signer
    assert "does not hold" in sentence(client, sign_on(client, provider))
    assert not User.objects.exists()


@pytest.mark.parametrize("break_it", ["state", "browser", "used"])
def test_an_answer_that_this_browser_did_not_begin_is_refused(client, provider, break_it):
    back = provider.approve(begin(client)["Location"], ADA)
    match break_it:
        case "state":
            back["state"] = "x" * 32
        case "browser":
            client = Client()
        case "used":
            client.get("/sso/callback", {"state": back["state"], "error": "access_denied"})
            client.get("/admin/login/")
    assert "was not begun last in this browser" in sentence(client, client.get("/sso/callback", back))
    assert not provider.posts


def test_a_provider_that_refuses_says_why(client, provider):
    back = provider.approve(begin(client)["Location"], ADA)
    answer = client.get("/sso/callback", {"state": back["state"], "error": "invalid_scope<b>"})
    assert "The provider refuses the login: invalid_scope&lt;b&gt;." in sentence(client, answer)


@pytest.mark.parametrize("name", ["ada", "ADA"])
def test_a_local_account_of_the_same_name_is_not_taken_over(client, provider, name):
    User.objects.create_superuser(name, password="of-this-machine")
    refused = sentence(client, sign_on(client, provider))
    assert "There is another account named ada." in refused
    assert not is_logged_in(client)
    assert User.objects.get().check_password("of-this-machine")


def test_a_person_stays_the_same_account_under_another_name_and_another_person_does_not(client, provider):
    sign_on(client, provider)
    sign_on(Client(), provider, preferred_username="ada.lovelace")
    assert User.objects.get().username == "ada"
    provider.userinfo = {"sub": "18"}
    assert "another account named ada" in sentence(client, sign_on(client, provider, sub="18"))


def test_an_account_that_is_switched_off_stays_out_and_its_login_ends(client, provider):
    sign_on(client, provider)
    User.objects.update(is_active=False)
    assert client.get("/requests/").status_code == 302
    assert "switched off" in sentence(client, sign_on(client, provider))


def test_an_account_of_the_provider_gets_no_password_here(client, provider):
    sign_on(client, provider)
    assert "your password is changed there" in client.post("/password/").text
    root = Client()
    root.force_login(
        User.objects.create_superuser("root"), backend="django.contrib.auth.backends.ModelBackend"
    )
    number = User.objects.get(username="ada").pk
    assert root.post(f"/users/{number}/link").status_code == 409
    shown = root.get(f"/users/{number}/").text
    assert "Active, by single sign-on" in shown
    assert "Ask for a new password" not in shown


def test_a_logout_ends_the_login_and_so_does_the_end_of_single_sign_on(client, provider, settings):
    sign_on(client, provider)
    assert 11 * 3600 < client.session.get_expiry_age() <= 12 * 3600
    client.post("/admin/logout/")
    assert not is_logged_in(client)
    sign_on(client, provider)
    settings.LLAMAPROXY_SSO = None
    settings.AUTHENTICATION_BACKENDS = settings.AUTHENTICATION_BACKENDS[:-1]
    assert client.get("/requests/").status_code == 302


@pytest.mark.parametrize(
    "then", ["https://evil.example.org/", "//evil.example.org", "javascript:alert(1)", "/" + "x" * 2000]
)
def test_a_login_leads_to_pages_of_this_installation_alone(client, provider, then):
    assert sign_on(client, provider, then)["Location"] == "/"


def test_below_a_sub_path_the_provider_is_told_the_whole_address(client, provider, settings):
    settings.FORCE_SCRIPT_NAME = "/llama"
    with script_prefix():  # as Django's handlers set it for each request
        sent = begin(client, "/llama/requests/")
        answer = client.get("/sso/callback", provider.approve(sent["Location"], ADA))
    assert provider.posts[0]["redirect_uri"] == "http://testserver/llama/sso/callback"
    assert sent.cookies["llamaproxy-sign-on"]["path"] == "/llama/sso/callback"
    assert answer["Location"] == "/llama/requests/"


def test_a_provider_that_is_away_is_told_on_the_login_page_and_in_the_log(client, provider, caplog):
    answers_once(client, provider)
    provider.status = 503
    assert "does not answer as it should" in sentence(client, begin(client))
    provider.status = 200
    back = provider.approve(begin(client)["Location"], ADA)
    provider.status = 503
    assert "does not answer as it should" in sentence(client, client.get("/sso/callback", back))
    assert "503" in caplog.text
    assert acts() == []


def test_a_provider_under_another_name_is_told_as_a_mistake(client, provider, settings, caplog):
    answers_once(client, provider)
    settings.LLAMAPROXY_SSO = replace(settings.LLAMAPROXY_SSO, issuer=f"{provider.url}/")
    assert "does not answer as it should" in sentence(client, begin(client))
    assert f"It calls itself '{provider.url}', and LLAMAPROXY_SSO_ISSUER is" in caplog.text


@pytest.mark.parametrize("address", [None, "http://id.example.org/token"])
def test_a_provider_whose_address_is_missing_or_without_tls_is_told_as_a_mistake(
    client, provider, caplog, address
):
    answers_once(client, provider)
    provider.more = {"token_endpoint": address}
    assert "does not answer as it should" in sentence(client, begin(client))
    assert f"Its token_endpoint is {address!r}, which is no https:// address." in caplog.text


def test_a_provider_that_wants_the_secret_in_the_form_gets_it_there(client, provider):
    provider.more = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    assert sign_on(client, provider)["Location"] == "/requests/"
    assert provider.posts[0]["client_secret"] == SECRET


def test_a_wrong_secret_is_a_login_that_does_not_hold(client, provider, settings, caplog):
    settings.LLAMAPROXY_SSO = replace(settings.LLAMAPROXY_SSO, client_secret="wrong-secret")
    assert "does not hold" in sentence(client, sign_on(client, provider))
    assert "invalid_client" in caplog.text
    assert "wrong-secret" not in caplog.text


def test_codes_that_do_not_hold_are_throttled_like_passwords_and_no_secret_is_logged(
    client, provider, caplog
):
    statuses = []
    for _ in range(10):
        state = dict(parse_qsl(urlsplit(begin(client)["Location"]).query))["state"]
        statuses.append(client.get("/sso/callback", {"state": state, "code": "guessed"}).status_code)
    assert statuses == [302] * 9 + [429]
    assert acts()[-1] == ("nobody logged in", "throttle logins", "single sign-on")
    assert "invalid_grant" in caplog.text
    assert SECRET not in caplog.text
    asked = len(provider.posts)
    assert sign_on(client, provider).status_code == 429
    assert len(provider.posts) == asked


@pytest.mark.parametrize("path", ["/sso/login", "/sso/callback"])
def test_single_sign_on_is_off_unless_it_is_set_up(client, path):
    assert client.get(path).status_code == 404
    assert "/sso/login" not in client.get("/admin/login/").text
