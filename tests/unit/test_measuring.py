"""The report on what the tests reach: its exit code decides whether a change lands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("slipcover", reason="pip install -e '.[dev]'")
ROOT = Path(__file__).parents[2]
FILES = ["supervisor_app/core/node.py", "supervisor_app/common/redact.py", "supervisor_app/web/rights.py"]


def report(directory, *workers):
    """Report on workers, of which each has reached these of the first three lines of a module of the core."""
    for number, reached in enumerate(workers):
        files = {
            name: {
                "executed_lines": sorted(reached) if name == FILES[0] else [1, 2, 3],
                "missing_lines": sorted({1, 2, 3} - reached) if name == FILES[0] else [],
                "executed_branches": [],
                "missing_branches": [],
            }
            for name in FILES
        }
        said = {"meta": {"software": "slipcover", "version": "1", "branch_coverage": True}, "files": files}
        (directory / f"gw{number}.json").write_text(json.dumps(said))
    command = [sys.executable, "-m", "tests.measuring", str(directory)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_all_that_any_worker_reached_is_a_success(tmp_path):
    done = report(tmp_path, {1, 2}, {2, 3})
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_a_gap_in_the_core_is_a_failure_that_says_so(tmp_path):
    done = report(tmp_path, {1, 2}, {2})
    assert done.returncode == 1
    assert "supervisor_app/core/: 66.67 % of lines and branches are reached, 100 % have to be." in done.stderr
