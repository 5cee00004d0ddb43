"""Who is let in, how much, and what the others are told."""

from __future__ import annotations

import re

import pytest

from supervisor_app.gateway.access.keys import (
    Budget,
    Denied,
    KeyPolicy,
    KeyRing,
    Limiter,
    check_budget,
    check_operation,
    digest_of,
    model_denied,
    new_key,
    shown_part,
)
from supervisor_app.gateway.llama.operations import Family, Operation, Scope, operation_of

ASKS = Operation(scope=Scope.INFERENCE)
NOW = 1_750_000_000.0
KEY = new_key()


def policy(key=KEY, **fields):
    return KeyPolicy(**{"id": 1, "name": "chat", "digest": digest_of(key), **fields})


def denied(call, *args):
    with pytest.raises(Denied) as caught:
        call(*args)
    return caught.value


# --- Keys ----------------------------------------------------------------------------------------------


def test_a_key_has_a_mark_and_256_random_bits():
    assert re.fullmatch(r"lp-[A-Za-z0-9_-]{43}", KEY)
    assert new_key() != KEY


def test_the_shown_part_of_a_key_does_not_give_it_away():
    assert KEY.startswith(shown_part(KEY))
    assert len(shown_part(KEY)) == len("lp-") + 5


def test_without_any_key_the_ring_is_open():
    assert KeyRing([]).is_open


def test_a_key_that_is_switched_off_keeps_the_ring_closed():
    assert not KeyRing([policy(enabled=False)]).is_open


# --- What it may --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", [Scope.READ, Scope.CHANGE])
def test_a_key_that_says_nothing_may_only_ask_models(scope):
    check_operation(policy(), ASKS, "POST /v1/completions")
    problem = denied(check_operation, policy(), Operation(scope=scope), "POST /props")
    assert (problem.status, problem.code, problem.key) == (403, "scope_not_allowed", 1)
    assert "POST /props" in problem.message
    check_operation(policy(scopes=frozenset(Scope)), Operation(scope=scope), "POST /props")


def test_a_key_for_some_endpoints_is_refused_all_others_by_name():
    limited = policy(families=frozenset({Family.CHAT, Family.MODELS}))
    check_operation(limited, operation_of("POST", "/v1/messages"), "POST /v1/messages")
    problem = denied(check_operation, limited, operation_of("POST", "/v1/embeddings"), "POST /v1/embeddings")
    assert (problem.status, problem.code, problem.key) == (403, "endpoint_not_allowed", 1)
    assert (
        problem.message == "The API key 'chat' may not POST /v1/embeddings. It is limited to: chat, models."
    )


def test_a_key_for_some_endpoints_keeps_its_rights_beside_them():
    limited = policy(families=frozenset({Family.MODELS}), scopes=frozenset(Scope))
    for method, path in (("GET", "/slots"), ("POST", "/props"), ("GET", "/health"), ("GET", "/index.html")):
        check_operation(limited, operation_of(method, path), path)


def test_endpoints_that_only_a_later_version_knows_let_nothing_more_in():
    later = policy(families=frozenset({"video"}))
    message = denied(check_operation, later, operation_of("POST", "/v1/rerank"), "POST /v1/rerank").message
    assert message.endswith("It is limited to: nothing.")


def test_a_request_ends_when_its_endpoint_is_taken_from_its_key():
    was, talk = policy(), operation_of("POST", "/v1/chat/completions")
    ring = KeyRing([policy(families=frozenset({Family.EMBEDDINGS}))])
    assert ring.withdrawn(was, talk, NOW).code == "endpoint_not_allowed"
    assert ring.withdrawn(was, operation_of("POST", "/v1/embeddings"), NOW) is None


# --- Who it is -----------------------------------------------------------------------------------------


def test_a_key_is_found_the_first_time_and_ever_after():
    mine, other = policy(), policy(new_key(), id=2, name="other")
    ring = KeyRing([other, mine])
    assert [ring.find(KEY, NOW), ring.find(KEY, NOW)] == [mine, mine]
    assert ring.ids == {1, 2}


@pytest.mark.parametrize(
    "presented",
    [KEY[:-1], KEY + "x", KEY.upper(), "lp-", "\udcff", "ключ", "x" * 100_000],
    ids=["shorter", "longer", "upper case", "its beginning", "no text", "other letters", "very long"],
)
def test_another_key_is_not_let_in(presented):
    refusal = denied(KeyRing([policy()]).find, presented, NOW)
    assert (refusal.status, refusal.code, refusal.retry_after) == (401, "invalid_api_key", None)
    assert refusal.message == "This API key is not known here."


def test_a_request_without_a_key_is_told_how_to_show_one():
    refusal = denied(KeyRing([policy()]).find, "", NOW)
    assert refusal.status == 401
    assert "`Authorization: Bearer lp-…`" in refusal.message


def test_a_refusal_never_repeats_what_was_presented():
    ring = KeyRing([policy(enabled=False)])
    for presented in (KEY, new_key()):
        assert presented not in str(denied(ring.find, presented, NOW))


def test_a_key_that_is_switched_off_says_so():
    refusal = denied(KeyRing([policy(enabled=False)]).find, KEY, NOW)
    assert (refusal.status, refusal.message) == (401, "The API key 'chat' is switched off.")


def test_a_key_expires_while_it_is_in_use():
    ring = KeyRing([policy(expires_at=NOW)])
    assert ring.find(KEY, NOW - 1)
    refusal = denied(ring.find, KEY, NOW)
    assert refusal.status == 401
    assert refusal.message == "The API key 'chat' expired on 2025-06-15 15:06 UTC."


def test_wrong_keys_leave_nothing_behind():
    ring = KeyRing([policy()])
    for number in range(100):
        denied(ring.find, f"lp-{number}", NOW)
    assert ring.find(KEY, NOW)
    assert len(ring.presented) == 1


# --- What it may ask for -------------------------------------------------------------------------------


def test_a_model_that_is_not_allowed_is_named_with_those_that_are():
    refusal = model_denied(policy(models=frozenset({"b", "a"})), "gpt-4")
    assert (refusal.status, refusal.code, refusal.key) == (403, "model_not_allowed", 1)
    assert refusal.message == "The API key 'chat' may not use 'gpt-4'. It may use: a, b."


def test_why_a_model_that_is_allowed_may_not_be_the_one_is_said():
    refusal = model_denied(policy(models=frozenset({"a"})), "a", "the body is too long")
    assert refusal.message == "The API key 'chat' may not use 'a': the body is too long. It may use: a."


# --- How much: requests --------------------------------------------------------------------------------


def test_without_limits_everything_is_let_in():
    limiter, mine = Limiter(), policy()
    for _ in range(1000):
        limiter.admit(mine, 0.0)


def test_a_limit_of_one_is_told_in_the_singular():
    limiter, mine = Limiter(), policy(max_concurrent=1)
    limiter.admit(mine, 100.0)
    assert "limited to 1 request at once." in denied(limiter.admit, mine, 100.0).message


def test_a_minutes_worth_of_requests_may_come_at_once_and_then_as_many_as_refill():
    limiter, mine = Limiter(), policy(requests_per_minute=6)
    for _ in range(6):
        limiter.admit(mine, 100.0)
    refusal = denied(limiter.admit, mine, 100.0)
    assert (refusal.status, refusal.code, refusal.retry_after) == (429, "rate_limit_exceeded", 10)
    assert refusal.message == "The API key 'chat' is limited to 6 requests per minute. Try again in 10 s."
    denied(limiter.admit, mine, 109.0)
    limiter.admit(mine, 110.0)
    denied(limiter.admit, mine, 110.0)


@pytest.mark.parametrize("per_minute", [1, 7, 60, 999])
def test_a_request_after_the_told_wait_is_let_in(per_minute):
    limiter, mine, now = Limiter(), policy(requests_per_minute=per_minute), 0.1
    for _ in range(per_minute):
        limiter.admit(mine, now)
    for _ in range(50):
        now += denied(limiter.admit, mine, now).retry_after
        limiter.admit(mine, now)
        while True:
            try:
                limiter.admit(mine, now)
            except Denied:
                break


def test_many_small_refills_are_as_good_as_a_large_one():
    limiter, mine = Limiter(), policy(requests_per_minute=60)
    for _ in range(60):
        limiter.admit(mine, 0.0)
    for tenth in range(1, 10):
        denied(limiter.admit, mine, tenth / 10)
    limiter.admit(mine, 1.0)


def test_a_quiet_hour_earns_no_more_than_a_minute():
    limiter, mine = Limiter(), policy(requests_per_minute=2)
    limiter.admit(mine, 0.0)
    limiter.admit(mine, 3600.0)
    limiter.admit(mine, 3600.0)
    denied(limiter.admit, mine, 3600.0)


def test_keys_do_not_pay_for_each_other():
    limiter = Limiter()
    limiter.admit(policy(requests_per_minute=1), 0.0)
    limiter.admit(policy(id=2, requests_per_minute=1), 0.0)


# --- How much: tokens ----------------------------------------------------------------------------------


def test_nothing_is_let_in_once_a_minutes_tokens_are_used_up_until_some_refilled():
    limiter, mine = Limiter(), policy(tokens_per_minute=600)
    limiter.admit(mine, 0.0)
    limiter.charge(mine, 500, 1.0)
    limiter.admit(mine, 1.0)
    limiter.charge(mine, 300, 1.0)  # 200 more than there were
    refusal = denied(limiter.admit, mine, 1.0)
    assert (refusal.status, refusal.retry_after) == (429, 21)
    assert "600 tokens per minute" in refusal.message
    denied(limiter.admit, mine, 20.0)
    limiter.admit(mine, 22.0)


def test_tokens_without_a_limit_are_not_counted():
    limiter, mine = Limiter(), policy()
    limiter.admit(mine, 0.0)
    limiter.charge(mine, 10**9, 0.0)
    limiter.admit(policy(tokens_per_minute=1), 0.0)


def test_a_charge_for_a_key_that_was_forgotten_is_dropped():
    limiter, mine = Limiter(), policy(tokens_per_minute=1)
    limiter.charge(mine, 10, 0.0)
    limiter.admit(mine, 0.0)


# --- How much: at once ---------------------------------------------------------------------------------


def test_no_more_at_once_than_allowed():
    limiter, mine = Limiter(), policy(max_concurrent=2)
    limiter.admit(mine, 0.0)
    limiter.admit(mine, 0.0)
    refusal = denied(limiter.admit, mine, 0.0)
    assert (refusal.status, refusal.retry_after) == (429, 1)
    assert "2 requests at once" in refusal.message
    limiter.release(mine)
    limiter.admit(mine, 0.0)


def test_a_refused_request_costs_nothing():
    limiter, mine = Limiter(), policy(max_concurrent=1, requests_per_minute=2)
    limiter.admit(mine, 0.0)
    for _ in range(5):
        denied(limiter.admit, mine, 0.0)
    limiter.release(mine)
    limiter.admit(mine, 0.0)


def test_a_release_too_many_gives_no_credit():
    limiter, mine = Limiter(), policy(max_concurrent=1)
    limiter.release(mine)
    limiter.admit(mine, 0.0)
    limiter.release(mine)
    limiter.release(mine)
    limiter.admit(mine, 0.0)
    denied(limiter.admit, mine, 0.0)


# --- When keys are read again --------------------------------------------------------------------------


def test_a_limit_that_was_lowered_holds_at_once():
    limiter = Limiter()
    limiter.admit(policy(requests_per_minute=100), 0.0)
    limiter.admit(policy(requests_per_minute=1), 0.0)
    denied(limiter.admit, policy(requests_per_minute=1), 0.0)


def test_running_requests_count_when_a_limit_is_new():
    limiter = Limiter()
    limiter.admit(policy(), 0.0)
    denied(limiter.admit, policy(max_concurrent=1), 0.0)


def test_keys_that_are_gone_are_forgotten_once_nothing_of_them_runs():
    limiter, gone, kept = Limiter(), policy(), policy(id=2)
    limiter.admit(gone, 0.0)
    limiter.admit(kept, 0.0)
    limiter.release(kept)
    limiter.forget_others({2})
    assert set(limiter.spent) == {1, 2}
    limiter.release(gone)
    limiter.forget_others({2})
    assert set(limiter.spent) == {2}


# --- Rotated -------------------------------------------------------------------------------------------

OLD = new_key()


def rotated(**fields):
    """The ring of a key whose old secret is good for another minute."""
    return KeyRing([policy(**fields), policy(OLD, expires_at=NOW + 60, replaced=True, **fields)])


def test_both_secrets_of_a_rotated_key_are_good_and_are_one_key():
    ring, limiter = rotated(max_concurrent=1), Limiter()
    limiter.admit(ring.find(OLD, NOW), 0)
    assert denied(limiter.admit, ring.find(KEY, NOW), 0).status == 429
    assert ring.ids == {1}


def test_an_old_secret_ends_and_says_so():
    ring = rotated()
    message = denied(ring.find, OLD, NOW + 60).message
    assert message == "The API key 'chat' has a new secret; this one was good until 2025-06-15 15:07 UTC."
    assert ring.find(KEY, NOW + 60)


def test_a_stream_of_an_old_secret_ends_with_it_and_is_not_cut_by_the_rotation():
    was = policy(OLD)
    assert rotated().withdrawn(was, ASKS, NOW) is None
    assert rotated().withdrawn(was, ASKS, NOW + 60).status == 401


def test_a_rotated_key_isolates_once():
    assert len(rotated(isolate_cache=True).isolating) == 1


# --- Budget --------------------------------------------------------------------------------------------


def test_a_key_goes_on_until_its_budget_is_used_up():
    check_budget(policy(), NOW)
    check_budget(policy(budget=Budget(tokens=1000, used=999, ends_at=NOW + 60)), NOW)


def test_a_key_over_its_budget_is_told_how_much_it_was_and_when_it_may_go_on():
    spent = policy(budget=Budget(tokens=1000, used=1204, ends_at=NOW + 59.5))
    refusal = denied(check_budget, spent, NOW)
    assert (refusal.status, refusal.code, refusal.retry_after, refusal.retryable) == (
        429,
        "insufficient_quota",
        60,
        False,
    )
    assert refusal.message == (
        "The API key 'chat' has used 1\u202f204 of its 1\u202f000 tokens of this month. It may go on from "
        "2025-06-15 15:07 UTC, or when its budget is raised."
    )
    check_budget(spent, NOW + 59.5)
