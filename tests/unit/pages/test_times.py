"""Times of pages are those of their reader: the browser writes each anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEMPLATES = Path(__file__).parents[3] / "templates"
IN_UTC = {
    "supervisor/audit.html",  # says that its times and days are those of UTC
    "supervisor/status.html",  # runs no script; each time says UTC
}
NAMES = sorted(str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.html"))
TIMES = {name: re.findall(r"<time\b[^>]*>", (TEMPLATES / name).read_text()) for name in NAMES}


@pytest.mark.parametrize("name", [name for name in NAMES if TIMES[name] and name not in IN_UTC])
def test_the_browser_is_told_how_to_write_each_time(name):
    assert [tag for tag in TIMES[name] if not re.search(r"\bdata-(?:ago|clock|instant)\b", tag)] == []
