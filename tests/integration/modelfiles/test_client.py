"""Requests to the hub, answered by a stand-in: metadata, ranges, refusals in words."""

from __future__ import annotations

import pytest
from huggingface_hub import constants

from supervisor_app.library.hub import client
from supervisor_app.library.hub.client import opened, read_listing
from supervisor_app.library.hub.errors import BrokenError, HubError
from supervisor_app.library.hub.repository import Remote
from tests.hub import COMMIT, REPOSITORY, stand_in

DATA = bytes(range(250)) * 1000
NAME = "Tiny-Q4_K_M.gguf"
FILE = Remote(path=NAME, size=len(DATA))
SECRET = "hf_do_not_tell"


@pytest.fixture
def hub(monkeypatch):
    with stand_in({NAME: DATA, "README.md": b"read me"}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(client, "get_token", lambda: None)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def read(start=0):
    with opened(REPOSITORY, COMMIT, FILE, start) as (begins, blocks):
        return begins, b"".join(blocks)


def test_a_listing_has_sizes_checksums_and_the_commit(hub):
    listing = read_listing(REPOSITORY, "main")
    (choice,) = listing.choices
    assert (listing.commit, choice.label, choice.size) == (COMMIT, "Q4_K_M", len(DATA))
    assert len(choice.files[0].sha256) == 64


def test_a_file_is_read_from_a_byte_on(hub):
    assert read(200_000) == (200_000, DATA[200_000:])
    assert hub.asked == [(NAME, "bytes=200000-")]


def test_a_hub_without_ranges_says_that_it_begins_at_the_start(hub):
    hub.knows_ranges = False
    assert read(200_000) == (0, DATA)


def test_a_connection_that_breaks_is_told_as_such(hub):
    hub.break_after = [100_000]
    with pytest.raises(BrokenError, match="the connection broke"):
        read()


@pytest.mark.parametrize(("status", "words"), [(503, "the hub answered 503"), (429, "the hub answered 429")])
def test_a_hub_that_is_busy_is_asked_again_later(hub, status, words):
    hub.statuses = [status]
    with pytest.raises(BrokenError, match=words):
        read()


def test_a_file_that_is_gone_is_told(hub):
    hub.statuses = [404]
    with pytest.raises(HubError, match=f"has no {NAME} any more"):
        read()


def test_a_status_that_nobody_expects_is_told(hub):
    hub.statuses = [418]
    with pytest.raises(HubError, match="The hub answered 418"):
        read()


def test_a_file_of_another_size_than_listed_is_refused(hub):
    hub.files[NAME] = DATA + b"more"
    with pytest.raises(HubError, match=r"another Tiny-Q4_K_M\.gguf than was listed"):
        read(5)


def test_a_gated_repository_names_its_page_and_the_token(hub):
    hub.token = SECRET
    for ask in (lambda: read_listing(REPOSITORY, "main"), read):
        with pytest.raises(
            HubError, match=rf"is gated\. Accept its licence at {hub.url}/{REPOSITORY}.*HF_TOKEN"
        ):
            ask()


def test_a_token_that_may_not_read_is_told_and_never_repeated(hub, monkeypatch):
    hub.token = "another"
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setattr(client, "get_token", lambda: SECRET)
    with pytest.raises(HubError, match="the token of this node may not read it") as told:
        read_listing(REPOSITORY, "main")
    assert SECRET not in str(told.value)


def test_a_token_of_the_environment_opens_a_gated_repository(hub, monkeypatch):
    hub.token = SECRET
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setattr(client, "get_token", lambda: SECRET)
    assert read_listing(REPOSITORY, "main").choices
    assert read() == (0, DATA)


def test_a_repository_that_is_not_there_may_be_private(hub):
    with pytest.raises(HubError, match="There is no someone/else"):
        read_listing("someone/else", "main")


def test_a_hub_that_is_away_is_told(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(BrokenError, match=r"^the hub at http://127.0.0.1:1 cannot be reached"):
        read_listing(REPOSITORY, "main")
