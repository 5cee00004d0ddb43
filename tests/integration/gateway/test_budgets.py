"""A key with a budget: read from the sums of days, told to its client, as quick as another until then."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from supervisor_app.gateway.access.keys import Budget, KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.edge import api_keys
from supervisor_app.traffic.models import UsageDay
from tests.integration.building import make_key
from tests.integration.gateway.plane import EMBEDDINGS, request
from tests.integration.gateway.scripts import answers

BEARER = "Authorization: Bearer lp-laptop"


def used(key, tokens, days_ago=0):
    day = timezone.now().date() - timedelta(days=days_ago)
    UsageDay.objects.create(day=day, key=key, server="default", model="m", generated_tokens=tokens)


@pytest.mark.django_db
def test_the_gateway_reads_what_a_key_has_used_this_month():
    for name in ("frugal", "other"):
        used(name, 70)
        used(name, 900, days_ago=40)
    make_key("frugal", tokens_per_month=100)
    make_key("other")
    budgets = {policy.name: policy.budget for policy in api_keys.load(time.time())}
    assert (budgets["frugal"].tokens, budgets["frugal"].used) == (100, 70)
    assert budgets["other"] is None


@pytest.mark.django_db
def test_keys_without_budgets_cost_no_look_at_the_sums(django_assert_num_queries):
    make_key("other")
    with django_assert_num_queries(1):
        api_keys.load()


@pytest.mark.parametrize("spent", [False, True])
async def test_requests_are_answered_until_the_budget_is_used_up(plane, spent):
    budget = Budget(tokens=10, used=10 if spent else 9, ends_at=plane.gateway.wall_time() + 3600)
    key = KeyPolicy(id=7, name="laptop", digest=digest_of("lp-laptop"), budget=budget)
    plane.gateway.learn_keys(KeyRing([key]))
    await plane.serve(answers(b"{}"))
    answer = await plane.ask(request(EMBEDDINGS, BEARER, body={"model": "default", "input": "hi"}))
    if not spent:
        assert answer.status == 200
        return
    error = answer.json["error"]
    assert (answer.status, error["type"], error["code"]) == (429, "insufficient_quota", "insufficient_quota")
    assert "10 of its 10 tokens" in error["message"]
    assert (await plane.ask(request("/v1/models", BEARER))).status == 200
