"""Keys of the gateway: who may ask for what and how much, said so that clients raise their own exceptions."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anthropic
import openai
import pytest
import requests

from tests.acceptance.gateway.askers import (
    MESSAGES,
    MODEL,
    SCRIPTED,
    anthropic_options,
    openai_client,
)
from tests.acceptance.gateway.conftest import make_keys
from tests.deadline import DEADLINE

UPSTREAM = "the-servers-own-key"
KEYS = {
    "chat UI": {},
    "switched off": {"enabled": False},
    "expired": {"expires_at": "2020-01-01T00:00:00Z"},
    "of another model": {"allowed_models": ["another"]},
    "of its model": {"allowed_models": ["tiny"]},
    "once a minute": {"requests_per_minute": 1},
    "few tokens": {"tokens_per_minute": 5},
    "one at a time": {"max_concurrent": 1},
    "captured": {"capture": True},
}


def ask(proxy, key, **more):
    with openai_client(proxy.gateway_url, key) as client:
        return client.chat.completions.create(model=MODEL, messages=MESSAGES, **more)


def told(proxy, key):
    return ask(proxy, key).choices[0].message.content


def answered(proxy, key):
    """Ask for an answer; None: the limits of the key do not let the question in."""
    with suppress(openai.RateLimitError):
        return told(proxy, key)


def refused(proxy, key, error, status):
    """Return what openai's client makes of a refusal."""
    with pytest.raises(error) as caught:
        ask(proxy, key)
    assert caught.value.status_code == status
    return caught.value


@pytest.fixture(scope="module")
def locked(make_shared):
    """A server that has a key of its own, and a gateway with `.keys`; made, as by people, while it runs."""
    proxy = make_shared(llama_api_key=UPSTREAM, model_aliases=["gpt-4"])
    proxy.script("--fake-token-seconds", "0.02", "-a", "tiny")
    proxy.start().wait_for_status("ready")
    assert told(proxy, "none") == SCRIPTED, "without any key in the table nobody is asked for one"
    proxy.keys = make_keys(proxy, KEYS)
    listing = f"{proxy.gateway_url}/v1/models"
    proxy.wait_for("the keys count", lambda: requests.get(listing, timeout=DEADLINE).status_code == 401)
    return proxy


def test_a_client_with_a_key_is_answered(locked):
    assert told(locked, locked.keys["chat UI"]) == SCRIPTED


def test_a_key_may_come_as_anthropics_clients_send_it(locked):
    body = {"messages": MESSAGES}
    url = f"{locked.gateway_url}/v1/chat/completions"
    answer = requests.post(url, json=body, headers={"X-Api-Key": locked.keys["chat UI"]}, timeout=DEADLINE)
    assert answer.json()["choices"][0]["message"]["content"] == SCRIPTED


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("lp-nobody-has-this", "This API key is not known here."),
        (UPSTREAM, "This API key is not known here."),
        ("switched off", "The API key 'switched off' is switched off."),
        ("expired", "The API key 'expired' expired on 2020-01-01 00:00 UTC."),
    ],
)
def test_a_key_that_is_not_good_is_an_authentication_error(locked, key, says):
    error = refused(locked, locked.keys.get(key, key), openai.AuthenticationError, 401)
    assert error.code == "invalid_api_key"
    assert says in error.message


def test_an_unknown_key_is_an_authentication_error_to_anthropics_client_too(locked):
    with (
        anthropic.Anthropic(**anthropic_options(locked.gateway_url)) as client,
        pytest.raises(anthropic.AuthenticationError) as caught,
    ):
        client.messages.create(model=MODEL, messages=MESSAGES, max_tokens=1)
    body: Any = caught.value.body
    assert (body["type"], body["error"]["code"]) == ("error", "invalid_api_key")


def test_a_client_that_names_no_key_is_told_how_to(locked):
    answer = requests.post(f"{locked.gateway_url}/completion", json={}, timeout=DEADLINE)
    assert answer.status_code == 401
    assert "Authorization: Bearer lp-" in answer.json()["error"]["message"]


def test_a_key_that_may_not_use_the_model_is_denied_permission(locked):
    error = refused(locked, locked.keys["of another model"], openai.PermissionDeniedError, 403)
    assert error.code == "model_not_allowed"
    assert "It may use: another." in error.message


def test_a_key_for_the_model_of_a_server_is_good_for_every_name_of_it(locked):
    key = locked.keys["of its model"]
    with openai_client(locked.gateway_url, key) as client:
        for name in ("default", "tiny", "gpt-4", "whatever"):
            answer = client.chat.completions.create(model=name, messages=MESSAGES)
            assert answer.choices[0].message.content == SCRIPTED


@pytest.mark.parametrize("name", ["once a minute", "few tokens"])
def test_a_key_that_is_used_up_is_told_when_to_come_back(locked, name):
    key = locked.keys[name]
    assert told(locked, key) == SCRIPTED
    # Tokens are counted a moment after the answer.
    locked.wait_for("it is used up", lambda: answered(locked, key) is None)
    error = refused(locked, key, openai.RateLimitError, 429)
    assert error.code == "rate_limit_exceeded"
    assert int(error.response.headers["Retry-After"]) > 0


def test_a_key_for_one_at_a_time_is_free_again_after_it(locked):
    key = locked.keys["one at a time"]
    with (
        openai_client(locked.gateway_url, key) as client,
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=1000, stream=True
        ) as stream,
    ):
        next(stream)
        error = refused(locked, key, openai.RateLimitError, 429)
    assert "limited to 1 request at once" in error.message
    assert locked.wait_for("it is free", lambda: answered(locked, key)) == SCRIPTED


def test_load_balancers_and_prometheus_need_no_key(locked):
    for path in ("/health", "/metrics"):
        assert requests.get(locked.gateway_url + path, timeout=DEADLINE).status_code == 200


def test_the_server_itself_still_asks_for_its_own_key(locked):
    assert requests.post(f"{locked.engine_url}/completion", json={}, timeout=DEADLINE).status_code == 401


def test_the_servers_key_is_nowhere_to_be_seen(locked):
    headers = {"Authorization": f"Bearer {locked.keys['chat UI']}"}
    seen = [locked.console]
    for path in ("/v1/models", "/props", "/metrics", "/nowhere"):
        answer = requests.get(locked.gateway_url + path, headers=headers, timeout=DEADLINE)
        seen += [answer.text, str(answer.headers)]
    seen += [str(locked.records()), locked.get("/api/servers/default/").text]
    assert [text for text in seen if UPSTREAM in text] == []


def test_the_key_of_a_request_is_recorded_and_its_text_only_where_the_key_says_so(locked):
    with locked.recording(2) as records:
        for name in ("chat UI", "captured"):
            told(locked, locked.keys[name])
    plain, captured = records
    assert (plain["key"], plain["captured_request"], plain["captured_answer"]) == ("chat UI", None, None)
    assert captured["key"] == "captured"
    assert MESSAGES[0]["content"] in captured["captured_request"]
    assert "word7" in captured["captured_answer"]
    used = "SELECT name FROM supervisor_app_apikey WHERE last_used_at IS NOT NULL"
    assert {"chat UI", "captured"} <= {row["name"] for row in locked.query(used)}
