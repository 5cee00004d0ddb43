"""What others wrote and we pass on is as they released it, with their licence beside it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VENDOR = ROOT / "static" / "vendor"
RELEASED = {
    "dompurify-3.5.0/purify.min.js": "f69a46022ab1f53e969c8ebbca98172c8995785a9b3be72ea4a12d25b1a1bf67",
    "idiomorph-0.8.0/idiomorph-ext.min.js": "5811b9a7eda14878b7dab4378bf60432e1bb6f11fcfb970cc26540642650181e",
    "marked-18.2.1/marked.umd.js": "bb95d4c15f1289f78486eaacebf3bb18688475ed58a040ef762ed49337090542",
    "uplot-1.6.32/uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot-1.6.32/uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""By file, the SHA-256 of the same file in its package on npm."""


def test_every_vendored_file_is_known():
    found = {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*.*s")}
    assert found == set(RELEASED)


@pytest.mark.parametrize("name", RELEASED)
def test_a_vendored_file_is_as_it_was_released(name):
    assert sha256((VENDOR / name).read_bytes()).hexdigest() == RELEASED[name]
    assert (VENDOR / name).with_name("LICENSE").read_text().strip()


@pytest.mark.parametrize("name", RELEASED)
def test_a_vendored_file_is_in_use(name):
    templates = "".join(path.read_text() for path in (ROOT / "templates").rglob("*.html"))
    assert f"vendor/{name}" in templates
