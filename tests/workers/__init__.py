"""Workers of a parallel run as forks of one process, which has loaded the product.

A worker needs 17 s of CPU before its first test, 9 of them to load the product with a probe at each line of it
(`tests/measuring.py`), and there are several for each core. pytest-xdist starts `worker.py` as the Python of a worker;
that hands its pipes on to a fork of `template.py`, and ends with it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

HERE = Path(__file__).parent


def fork_workers(config: pytest.Config) -> None:
    """Let the workers of a run, of whose number pytest-xdist has decided, be forks. Ends with the run."""
    directory = Path(tempfile.mkdtemp(prefix="workers-"))
    address = directory / "orders"
    leash, held = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as orders:
        orders.bind(str(address))
        command = [sys.executable, "-m", "tests.workers.template", str(leash)]
        template = subprocess.Popen(command, cwd=HERE.parents[1], stdin=orders.fileno(), pass_fds=[leash])
    os.close(leash)
    python = shlex.join([sys.executable, str(HERE / "worker.py"), str(address)])
    config.option.tx = [f"popen//python={python}"] * len(config.option.tx)

    def end() -> None:
        os.close(held)
        template.wait()
        shutil.rmtree(directory)

    config.add_cleanup(end)
