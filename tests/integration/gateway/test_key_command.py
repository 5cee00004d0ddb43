"""`manage.py llama key`: keys for machines without a browser."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from supervisor_app.gateway.access.keys import Denied, KeyRing
from supervisor_app.gateway.edge import api_keys
from supervisor_app.gateway.llama.operations import Family
from supervisor_app.traffic.models import ApiKey
from tests.integration.building import make_key

pytestmark = pytest.mark.django_db


def llama(*arguments):
    """What `manage.py llama …` says on stdout and stderr."""
    out, err = StringIO(), StringIO()
    call_command("llama", *arguments, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


def test_a_key_is_made_and_told_alone_on_its_line():
    said, remark = llama("key", "add", "nightly job")
    (secret,) = said.splitlines()
    assert secret.startswith("lp-")
    assert "only time" in remark
    assert KeyRing(api_keys.load()).find(secret, 0.0).name == "nightly job"


def test_a_key_is_shown_once_and_kept_nowhere():
    secret = llama("key", "add", "chat")[0].strip()
    (row,) = ApiKey.objects.values()
    assert secret not in repr(row)
    assert secret not in llama("key", "list")[0]


@pytest.mark.parametrize("name", ["chat", "", "x" * 101], ids=["taken", "empty", "long"])
def test_a_name_that_cannot_be_used_is_refused_in_words(name):
    make_key("chat")
    with pytest.raises(CommandError, match="No key"):
        llama("key", "add", name)
    assert ApiKey.objects.count() == 1


def test_a_rotated_key_has_two_secrets_until_a_moment():
    old = llama("key", "add", "chat")[0].strip()
    said, remark = llama("key", "rotate", "chat", "--until", "2h")
    assert "The old one is good until" in remark
    ring, now = KeyRing(api_keys.load()), time.time()
    assert {ring.find(secret, now).name for secret in (old, said.strip())} == {"chat"}
    with pytest.raises(Denied, match="has a new secret; this one was good until"):
        ring.find(old, now + 7201)
    assert ring.find(said.strip(), now + 7201)
    assert "its old secret until" in llama("key", "list")[0]


@pytest.mark.parametrize(
    ("name", "until", "why"), [("chat", "soon", "no moment"), ("caht", "1h", "Keys: chat.")]
)
def test_a_key_is_rotated_by_its_name_until_a_moment_that_can_be_read(name, until, why):
    make_key("chat")
    with pytest.raises(CommandError, match=why):
        llama("key", "rotate", name, "--until", until)


def test_a_key_that_is_revoked_lets_nobody_in_and_keeps_the_door_shut():
    secret = llama("key", "add", "chat")[0].strip()
    assert llama("key", "revoke", "chat")[0] == "chat: switched off\n"
    ring = KeyRing(api_keys.load())
    assert not ring.is_open
    with pytest.raises(Denied):
        ring.find(secret, 0.0)


def test_a_key_that_does_not_exist_cannot_be_revoked():
    make_key("chat")
    with pytest.raises(CommandError, match="no API key 'chit'") as caught:
        llama("key", "revoke", "chit")
    assert caught.value.returncode == 2


def test_an_empty_list_says_how_a_key_is_made():
    assert llama("key", "list") == ("", "There is no API key yet: llama key add NAME makes one.\n")


def test_the_list_tells_what_each_is_worth():
    now = timezone.now()
    make_key("a")
    make_key("b", enabled=False)
    make_key("c", expires_at=now - timedelta(days=1), last_used_at=now)
    make_key("d", expires_at=now + timedelta(days=1))
    told = [line.split(", ", 1)[1] for line in llama("key", "list")[0].splitlines()]
    assert told[:2] == ["in force, never used", "switched off, never used"]
    assert told[2] == f"expired {now - timedelta(days=1):%Y-%m-%d %H:%M}, last used {now:%Y-%m-%d %H:%M}"
    assert told[3].startswith("in force until")


@pytest.mark.parametrize(
    "arguments", [["key"], ["key", "add"], ["key", "list", "x"], ["key", "make", "x"], ["status", "a", "b"]]
)
def test_whatever_else_is_typed_is_told_what_to_type(arguments):
    with pytest.raises(CommandError) as caught:
        llama(*arguments)
    assert caught.value.returncode == 2


def test_a_key_is_told_what_more_it_may():
    llama("key", "add", "chat")
    llama("key", "add", "scraper", "--may-read")
    llama("key", "add", "operator", "--may-change")
    rights = {key.name: key.scopes for key in ApiKey.objects.all()}
    assert rights == {
        "chat": {"inference"},
        "scraper": {"inference", "read"},
        "operator": {"inference", "read", "change"},
    }
    chat, operator, scraper = llama("key", "list")[0].splitlines()
    assert chat.endswith("never used")
    assert scraper.endswith(", may read")
    assert operator.endswith(", may read, may change")


def test_a_key_is_limited_to_the_endpoints_that_are_named():
    llama("key", "add", "ci", "--endpoints", "models, Chat", "--may-read")
    assert ApiKey.objects.get().allowed_families == ["chat", "models"]
    assert llama("key", "list")[0].strip().endswith(", only chat and models, may read")


def test_a_key_for_all_endpoints_has_no_limit():
    llama("key", "add", "all", "--endpoints", ",".join(Family))
    assert ApiKey.objects.get().allowed_families == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ["key", "add", "ci", "--endpoints", "chat,talk"],
            "there are no endpoints 'talk'. Name some of chat, co",
        ),
        (
            ["key", "add", "ci", "--endpoints", " ,"],
            "Name some of chat, completions, embeddings, rerank, audio, ",
        ),
        (["key", "rotate", "ci", "--endpoints", "chat"], "--endpoints is of key add."),
        (["status", "--endpoints", "chat"], "--endpoints is of key add, not of status."),
    ],
    ids=["unknown", "none", "rotate", "status"],
)
def test_endpoints_that_make_no_sense_are_refused_and_nothing_is_made(arguments, why):
    with pytest.raises(CommandError, match=re.escape(why)) as caught:
        llama(*arguments)
    assert caught.value.returncode == 2
    assert not ApiKey.objects.exists()


def test_a_list_says_to_which_endpoints_a_key_is_limited():
    make_key("ci", allowed_families=["chat", "models"], may_read=True)
    assert llama("key", "list")[0].strip().endswith(", only chat and models, may read")
