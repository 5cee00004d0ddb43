"""One key guesses what another one has asked, by what the real llama-server says of its cache."""

from __future__ import annotations

import json

import pytest
import requests

from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.gateway.conftest import make_keys
from tests.deadline import DEADLINE

SECRET = "the small llama carries its token 4711 and greets your friend . "
COUNTS = ("cache_n", "cached_tokens", "cache")
WAYS = {
    "/completion": {"prompt": SECRET, "n_predict": 1},
    "/v1/completions": {"prompt": SECRET, "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 1},
    "/v1/responses": {"input": SECRET, "max_output_tokens": 1},
}
TRICKS = [
    {},
    {"cache_prompt": True},
    {"id_slot": 0},
    {"id_slot": 1},
    {"stream": True, "return_progress": True},
]


def counts_in(text):
    """All that an answer tells of the cache, whether it is a stream or not."""
    found = []

    def look(value):
        if isinstance(value, dict):
            found.extend(value[name] for name in COUNTS if isinstance(value.get(name), int))
            value = list(value.values())
        if isinstance(value, list):
            for each in value:
                look(each)

    for line in text.splitlines():
        data = line.removeprefix("data: ")
        if data.startswith("{"):
            look(json.loads(data))
    return found


class Asked:
    def __init__(self, proxy, key):
        self._url = proxy.gateway_url
        self._headers = {"Authorization": f"Bearer {key}"}

    def ask(self, path, body):
        content = {"data": body} if isinstance(body, bytes) else {"json": body}
        return requests.post(self._url + path, headers=self._headers, timeout=DEADLINE, **content)

    def counts(self, path, body):
        answer = self.ask(path, body)
        assert answer.status_code == 200, answer.text
        return counts_in(answer.text)


@pytest.fixture(params=[True, False], ids=["isolated", "not isolated"])
def asked(make_proxy, engine, model, request):
    """A victim, whose key isolates its prompts or does not, and somebody else."""
    if engine != "llama-server":
        pytest.skip("of llama-server alone it is known what it caches")
    proxy = make_proxy(llama_model_path=str(model), llama_server_args=[*ENGINE_ARGS, "-np", "2"])
    keys = make_keys(proxy, {"victim": {"isolate_cache": request.param}, "attacker": {}})
    proxy.start().wait_for_status("ready")
    return request.param, Asked(proxy, keys["victim"]), Asked(proxy, keys["attacker"])


@pytest.mark.parametrize("path", WAYS)
def test_another_key_finds_nothing_in_the_cache(asked, path):
    isolated, victim, attacker = asked
    body = WAYS[path]
    for trick in TRICKS:
        assert victim.ask(path, body).ok
        found = attacker.counts(path, body | trick)
        if isolated:
            assert not any(found), (trick, found)
        elif not trick:
            assert any(found)  # what it could have read
    if isolated:
        # To llama-server a NUL is the end: what we add must not come behind it.
        sly = json.dumps(body | {"cache_prompt": True}).encode() + b"\0}"
        assert attacker.ask(path, sly).json()["error"]["code"] == "cache_not_isolated"
        assert not any(victim.counts(path, body))


def test_a_path_that_cannot_be_kept_from_the_cache_is_refused(asked):
    isolated, victim, attacker = asked
    for client in (victim, attacker):
        answer = client.ask("/v1/messages", WAYS["/v1/chat/completions"])
        assert answer.status_code == (403 if isolated else 200)
