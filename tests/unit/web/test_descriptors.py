"""Shares of the listeners in the file descriptors of a process."""

from __future__ import annotations

import pytest

from supervisor_app.web.descriptors import Shares, shares_of


@pytest.mark.parametrize(
    ("files", "wanted", "expected"),
    [
        (16_384, Shares(web=1024, gateway=4096), Shares(web=1024, gateway=4096)),
        (16_384, Shares(web=1024, gateway=0), Shares(web=1024, gateway=0)),
        (16_384, Shares(web=0, gateway=4096), Shares(web=0, gateway=4096)),
        (1024, Shares(web=1024, gateway=4096), Shares(web=128, gateway=192)),
        (1024, Shares(web=1024, gateway=0), Shares(web=512, gateway=0)),
        (256, Shares(web=0, gateway=4096), Shares(web=0, gateway=64)),
    ],
)
def test_listeners_share_what_supervision_leaves_them(files, wanted, expected):
    assert shares_of(files, wanted) == expected


@pytest.mark.parametrize("files", [64, 256, 1024, 2048, 4096, 16_384, 1_000_000])
def test_whatever_the_limit_there_is_a_reserve(files):
    shares = shares_of(files, Shares(web=1024, gateway=4096))
    assert shares.web + 2 * shares.gateway <= files - min(512, files // 2)
