"""Sentences of what does not start now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.placement.reasons import Holder, Kind, Reason, Stay, sentence

GIB = 1024**3
BIG = Reason(
    kind=Kind.MEMORY,
    name="big",
    device="GPU-1",
    device_name="GPU 0",
    needed=int(22.4 * GIB),
    usable=int(23.1 * GIB),
    free=int(9.1 * GIB),
    holders=(
        Holder(name="embed", bytes=int(1.2 * GIB), stay=Stay.PINNED),
        Holder(name="coder", bytes=int(12.8 * GIB), stay=Stay.BUSY, requests=2),
    ),
    remedy="-c 16384",
    remedy_needed=int(20.9 * GIB),
)


def test_a_refusal_says_the_need_the_free_memory_its_holders_and_a_remedy():
    assert sentence(BIG) == (
        "`big` needs 22.4 GiB on GPU 0. Free are 9.1 GiB; `embed` holds 1.2 GiB (pinned), "
        "`coder` 12.8 GiB (busy, 2 requests). With `-c 16384` it would fit (20.9 GiB)."
    )


def test_an_estimate_is_told_as_one():
    assert sentence(replace(BIG, estimated=True)).startswith("`big` needs about 22 GiB (estimated) on GPU 0.")


def test_memory_of_other_programs_is_told():
    reason = replace(BIG, holders=(), strangers=2 * GIB, remedy="")
    assert sentence(reason) == (
        "`big` needs 22.4 GiB on GPU 0. Free are 9.1 GiB, other programs use 2.0 GiB."
    )


def test_a_budget_that_people_set_is_told():
    assert sentence(replace(BIG, allowed=16 * GIB, remedy="")) == (
        "`big` needs 22.4 GiB on GPU 0. Free are 9.1 GiB of the 16.0 GiB that `budget_mb` allows; "
        "`embed` holds 1.2 GiB (pinned), `coder` 12.8 GiB (busy, 2 requests)."
    )


def test_the_reserve_is_told_where_it_makes_the_difference():
    assert sentence(replace(BIG, holders=(), free=22 * GIB, reserve=GIB, strangers=GIB, remedy="")) == (
        "`big` needs 22.4 GiB on GPU 0. Free are 22.0 GiB beside the 1.0 GiB that `reserve_mb` keeps, "
        "other programs use 1.0 GiB."
    )


@pytest.mark.parametrize(
    ("needed", "free", "estimated", "said"),
    [
        (114.2, 111.35, True, "needs about 114.2 MiB (estimated) on GPU 0. Free are 111.3 MiB."),
        (111.4, 110.65, False, "needs 111.4 MiB on GPU 0. Free are 110.6 MiB."),
        (111.04, 111.01, False, "needs 111.1 MiB on GPU 0. Free are 111.0 MiB."),
        (64.02, 63.995, False, "needs 64.02 MiB on GPU 0. Free are 63.99 MiB."),
        (1024.1, 1023.9, False, "needs 1.01 GiB on GPU 0. Free are 0.99 GiB."),
    ],
)
def test_numbers_never_look_as_if_it_fitted(needed, free, estimated, said):
    mib = GIB // 1024
    reason = replace(
        BIG, holders=(), remedy="", needed=int(needed * mib), free=int(free * mib), estimated=estimated
    )
    assert sentence(reason) == f"`big` {said}"


def test_a_reason_that_is_read_for_long_leaves_out_what_the_holders_do_now():
    assert "`embed` holds 1.2 GiB (pinned), `coder` 12.8 GiB. With" in sentence(BIG, lasting=True)


def test_nothing_more_is_said_than_is_known():
    assert sentence(replace(BIG, holders=(), remedy="")) == (
        "`big` needs 22.4 GiB on GPU 0. Free are 9.1 GiB."
    )


def _holders(*stays: Stay) -> tuple[Holder, ...]:
    return tuple(Holder(name=f"s{i}", bytes=0, stay=stay, requests=1) for i, stay in enumerate(stays))


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (
            Reason(kind=Kind.NODE_LIMIT, name="a", limit=2, holders=_holders(Stay.PINNED, Stay.BUSY)),
            "`a` has no place: 2 servers may be loaded at a time (`max_loaded`); "
            "there is `s0` (pinned), `s1` (busy, 1 request).",
        ),
        (
            Reason(
                kind=Kind.GROUP_LIMIT, name="a", limit=1, group="chat", holders=_holders(Stay.JUST_LOADED)
            ),
            "`a` has no place: 1 server of the group `chat` may be loaded at a time; "
            "there is `s0` (just loaded).",
        ),
        (
            Reason(kind=Kind.LOADS, name="a", holders=_holders(Stay.LOADING, Stay.FIRST)),
            "Waits for its turn to load: `s0` loads now, `s1` comes first.",
        ),
        (
            Reason(kind=Kind.LOADS, name="a", holders=_holders(*[Stay.LOADING] * 6)),
            "Waits for its turn to load: `s0`, `s1`, `s2`, `s3` and 2 more load now.",
        ),
        (
            Reason(kind=Kind.LOADS, name="a", limit=4),
            "Waits for its turn to load: 4 servers load at a time, and others come first.",
        ),
        (
            Reason(kind=Kind.STILL_HERE, name="a"),
            "`a` starts once its last process has ended and its memory is back.",
        ),
        (
            Reason(kind=Kind.UNKNOWN_NEED, name="a"),
            "It is not known yet how much memory `a` needs: it loads while no other does.",
        ),
        (
            replace(BIG, kind=Kind.DOUBTED, estimated=True),
            "`big` needs about 22 GiB (estimated) on GPU 0. It can have 23.1 GiB. "
            "Estimates may be wrong: it is tried.",
        ),
    ],
)
def test_each_obstacle_has_its_sentence(reason, expected):
    assert sentence(reason) == expected


@pytest.mark.parametrize("stay", list(Stay))
def test_each_reason_to_stay_has_words(stay):
    holder = Holder(name="x", bytes=GIB, stay=stay, requests=3)
    words = sentence(replace(BIG, holders=(holder,), remedy="")).rpartition("(")[2]
    assert words.removesuffix(").").replace(", ", "").replace(" ", "").isalnum()
