"""What strangers send fills no table: it is counted."""

from __future__ import annotations

import re

import requests

from tests.acceptance.gateway.conftest import make_keys
from tests.deadline import DEADLINE

NUMBER = 3000


def test_refusals_of_strangers_are_counted_and_not_stored(fake):
    keys = make_keys(fake, {"known": {}})
    fake.start().wait_for_status("ready")
    body = {"model": "default", "messages": []}
    with requests.Session() as stranger:
        stranger.trust_env = False
        for number in range(NUMBER):
            headers = {"Authorization": f"Bearer lp-{number}"}
            url = f"{fake.gateway_url}/v1/chat/completions"
            assert stranger.post(url, json=body, headers=headers, timeout=DEADLINE).status_code == 401
    with fake.recording(1) as found:
        headers = {"Authorization": f"Bearer {keys['known']}"}
        requests.post(f"{fake.gateway_url}/v1/chat/completions", json=body, headers=headers, timeout=DEADLINE)
    assert [record["route"] for record in found] == ["/v1/chat/completions"]
    assert len(fake.records()) == 1
    metrics = requests.get(f"{fake.gateway_url}/metrics", timeout=DEADLINE).text
    refused = re.findall(r'llamaproxy_requests_total\{.*outcome="refused".*\} ([0-9.]+)', metrics)
    assert sum(map(float, refused)) == NUMBER
