"""Models on disk, as the page shows them."""

from __future__ import annotations

import pytest

from supervisor_app.pages.presenters.modelfiles import short_count


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, ""),
        (512, "512"),
        (33_280, "33K"),
        (494_032_768, "494M"),
        (7_615_616_512, "7.6B"),
        (1.2e12, "1.2T"),
    ],
)
def test_a_number_of_parameters_is_told_as_people_say_it(count, words):
    assert short_count(int(count)) == words
