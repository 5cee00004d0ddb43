"""What is computed anew because a key isolates its prompts."""

from __future__ import annotations

import json

import pytest

from supervisor_app.gateway.llama.isolation import (
    NotIsolatedError,
    caches_prompts,
    check_isolation,
    is_shared_with,
    without_cache,
)
from supervisor_app.gateway.llama.operations import operation_of


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' {"prompt": "a"} \n',
        b'{"cache_prompt": true}',
        b'\xef\xbb\xbf{"prompt": "}"}',
        b'{"cache\\u005fprompt": true, "prompt": {"cache_prompt": true}}',
    ],
)
def test_the_field_that_forbids_the_cache_comes_last(body):
    pairs = json.loads(without_cache(body).decode("utf-8-sig"), object_pairs_hook=list)
    assert pairs[-1] == ("cache_prompt", False)
    assert len(pairs) == len(json.loads(body.decode("utf-8-sig"), object_pairs_hook=list)) + 1


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'"a"', b"{", b'{"cache_prompt":true}\0}', b'{"a":1}{"b":2}', b'{"a":1} // }', b"\xff{}"],
)
def test_a_body_that_the_server_may_read_otherwise_is_refused(body):
    with pytest.raises(NotIsolatedError):
        without_cache(body)


def check(path, body=b"{}", **more):
    usual = {"is_form": False, "is_partial": False, "caches": True}
    return check_isolation(operation_of("POST", path), body, **{**usual, **more})


@pytest.mark.parametrize(
    "path", ["/completion", "/v1/chat/completions", "/v1/responses", "/infill", "/unknown"]
)
def test_prompts_of_most_paths_can_be_kept_from_the_cache(path):
    assert check(path)


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/messages", {}),
        ("/v1/audio/transcriptions", {"is_form": True}),
        ("/v1/audio/transcriptions", {"is_form": True, "caches": False, "body": b"cache_prompt"}),
        ("/completion", {"is_partial": True, "caches": False}),
        ("/completion", {"body": b"nothing", "caches": False}),
    ],
)
def test_some_cannot(path, more):
    with pytest.raises(NotIsolatedError):
        check(path, **more)


def test_a_server_without_a_cache_may_be_asked_at_any_path():
    assert check("/v1/messages", caches=False)
    assert not check("/v1/audio/transcriptions", is_form=True, caches=False)


@pytest.mark.parametrize(
    ("args", "caches"),
    [
        ([], True),
        (["-c", "8"], True),
        (["--no-cache-prompt"], False),
        (["--no-cache-prompt", "--cache-prompt"], True),
        (["--cache-prompt", "--no-cache-prompt"], False),
        (["--no-cache-prompt", "--cache_prompt"], True),
    ],
)
def test_the_flag_that_comes_last_counts(args, caches):
    assert caches_prompts(args) is caches


def test_a_server_is_shared_with_keys_that_may_use_it():
    assert is_shared_with(frozenset(), ["a"], is_router=False)
    assert is_shared_with(frozenset({"a"}), ["a", "b"], is_router=False)
    assert not is_shared_with(frozenset({"c"}), ["a", "b"], is_router=False)
    assert is_shared_with(frozenset({"c"}), ["a", "b"], is_router=True)
