"""Loading of our modules: quick, because no garbage is searched meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MANAGE = Path(__file__).parents[3] / "manage.py"
SERVE_PAGES = "import llamaproxy.asgi"
TELL = "import gc; print(gc.isenabled(), gc.get_freeze_count() > 50_000, sum(c['collections'] for c in gc.get_stats()))"


@pytest.mark.parametrize("before", ["", f"{SERVE_PAGES}; "])
def test_garbage_is_searched_once_all_is_loaded_and_never_among_that(tmp_path, monkeypatch, before):
    """Also in a process of everything, which loads the pages once its apps are ready."""
    monkeypatch.setenv("LLAMAPROXY_DATA_DIR", str(tmp_path))
    command = [sys.executable, str(MANAGE), "shell", "--verbosity", "0", "--command", before + TELL]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    works, is_frozen, collections = done.stdout.split()
    assert (works, is_frozen) == ("True", "True")
    assert int(collections) < 100, "a start that searches all the time has 160 of them"
