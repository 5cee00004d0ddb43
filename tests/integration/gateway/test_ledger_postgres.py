"""The tests of what gateways keep, on a real PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.deadline import DEADLINE
from tests.postgres import throwaway_cluster

HERE = Path(__file__).parent
FILES = ("ledger", "bulk_insert", "api_keys", "quarantine", "retention", "writer", "usage", "sights", "tally")


def test_postgresql_keeps_the_same():
    with throwaway_cluster() as cluster:
        clocks = f"{HERE / 'test_idleness.py'}::test_gateways_whose_clocks_differ_agree_on_the_last_use"
        kept = [HERE / f"test_{name}.py" for name in FILES]
        tests = [*map(str, kept), str(HERE.parent / "fleet" / "test_sampling.py"), clocks]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
            cwd=HERE.parents[2],
            env=os.environ | {"DATABASE_URL": cluster.url},
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE,
        )
    assert done.returncode == 0, done.stdout
