"""Memory of devices as data: `supervisor_app.pages.presenters.memory`."""

from __future__ import annotations

from supervisor_app.core.devices import Device
from supervisor_app.pages.presenters.memory import memory_of

GIB = 2**30
CARD = Device(id="GPU-0", name="RTX", total=24 * GIB, free=4 * GIB, ours=16 * GIB)


def parts(memory):
    return [(share.holder, share.kind, round(share.count / GIB, 1)) for share in memory.shares]


def test_each_server_has_its_part_the_largest_first():
    assert parts(memory_of(CARD, {"small": 4 * GIB, "large": 10 * GIB})) == [
        ("large", "server", 10.0),
        ("small", "server", 4.0),
        ("other of ours", "ours", 2.0),
        ("others", "others", 4.0),
        ("free", "free", 4.0),
    ]


def test_servers_share_what_is_ours_where_they_need_more_than_was_seen():
    assert parts(memory_of(CARD, {"a": 24 * GIB, "b": 8 * GIB}))[:2] == [
        ("a", "server", 12.0),
        ("b", "server", 4.0),
    ]


def test_a_device_of_which_nothing_is_known_shows_what_is_ours():
    assert parts(memory_of(CARD, {}))[0] == ("ours", "ours", 16.0)


def test_the_parts_fill_the_bar():
    shares = memory_of(CARD, {"a": 10 * GIB}).shares
    assert shares[0].x == 0
    assert abs(shares[-1].x + shares[-1].width - 100) < 0.1


def test_a_server_has_what_it_was_seen_to_use_and_others_share_what_is_left_of_ours():
    memory = memory_of(CARD, {"seen": 10 * GIB, "guessed": 14 * GIB}, {"seen": 9 * GIB, "gone": 0})
    assert parts(memory)[:3] == [
        ("seen", "server", 9.0),
        ("guessed", "server", 7.0),
        ("others", "others", 4.0),
    ]


def test_servers_that_were_seen_to_use_more_than_is_ours_now_stay_within_the_bar():
    shares = memory_of(CARD, {"c": GIB}, {"a": 12 * GIB, "b": 8 * GIB}).shares
    assert [share.said for share in shares[:2]] == ["a 12.0 GiB", "b 8.0 GiB"]
    assert abs(shares[-1].x + shares[-1].width - 100) < 0.1


def test_a_trifle_is_told_as_one():
    (server,) = memory_of(CARD, {"a": 47 * 2**20}, {"a": 27 * 2**20}).servers
    assert server.said == "a 27.0 MiB (<1 %)"
    assert memory_of(CARD, {"a": GIB}).servers[0].said == "a 1.0 GiB"


def test_a_device_that_tells_no_size_has_an_empty_bar():
    none = Device(id="x", name="Unknown", total=0, free=0)
    assert memory_of(none, {"a": GIB}).shares == ()


def test_the_bar_is_told_in_a_sentence():
    said = memory_of(CARD, {"chat": 16 * GIB}).sentence
    assert said == "RTX: chat 16.0 GiB, others 4.0 GiB, free 4.0 GiB."
