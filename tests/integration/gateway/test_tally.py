"""Sums of what passed the gateways, for the samples of servers."""

from __future__ import annotations

import pytest
from django.utils import timezone

from supervisor_app.fleet.course import Passed
from supervisor_app.gateway.edge import ledger, sights
from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.records.in_flight import InFlight, Phase, ServerCounts
from supervisor_app.traffic.passed import Tally
from tests.integration.building import make_record

pytestmark = pytest.mark.django_db


def ended(server="default", **fields):
    usage = Usage(
        prompt_tokens=fields.pop("prompt", None),
        cached_tokens=fields.pop("cached", None),
        generated_tokens=fields.pop("generated", None),
    )
    ledger.write([make_record(server=server, usage=usage, **fields)])


def test_requests_that_ended_before_are_not_counted():
    ended(generated=50)
    assert Tally()() == {}


def test_requests_that_end_are_added_to_their_server():
    tally = Tally()
    tally()
    ended(generated=11, prompt=100, cached=40, ttft_ms=50.0, duration_ms=250.0)
    ended(generated=5, prompt=10, ttft_ms=30.0, duration_ms=70.0)
    ended(status=500)
    ended(generated=1, ttft_ms=20.0, duration_ms=20.0)
    ended("coder", generated=7, duration_ms=80.0)
    ended("", status=401)
    assert tally() == {
        "default": Passed(
            generated=17,
            prompt=110,
            cached=40,
            first_tokens=3,
            first_token_ms=100.0,
            later_tokens=14,
            later_token_ms=240.0,
        ),
        "coder": Passed(generated=7),
    }
    ended(generated=3)
    assert tally()["default"].generated == 20


def test_requests_in_flight_at_all_gateways_are_counted_beside_them():
    tally = Tally()
    tally()
    ended(generated=11)
    requests = [
        InFlight(id=name, at=timezone.now().timestamp(), phase=Phase.GENERATING, server="default", tokens=30)
        for name in ("a", "b")
    ]
    requests += [InFlight(id="c", at=0.0, phase=Phase.SENT, server="default")]
    for gateway in ("one", "two"):
        counts = {"default": ServerCounts(3, 1, 20.0), "coder": ServerCounts(0, 2)}
        sights.write(gateway, sights.encoded(counts), sights.encoded(requests), 5)
    assert tally() == {
        "default": Passed(in_flight=6, waiting=2, streaming=120, generated=11),
        "coder": Passed(waiting=4),
    }
    sights.withdraw("one")
    sights.withdraw("two")
    assert tally() == {"default": Passed(generated=11)}


def test_a_look_costs_three_queries_at_most(django_assert_max_num_queries):
    tally = Tally()
    tally()
    for number in range(20):
        ended(f"s{number}", generated=5)
    with django_assert_max_num_queries(3):
        tally()
