"""manage.py in surroundings that are poor in something. The product knows nothing of it.

    python surroundings.py [--files SOFT [--files-at-most HARD]] [--no-output] [--no-threads MARKER]
        [--dead-disk MARKER] -- manage.py ARGUMENT…

While the file MARKER is there, no new thread can be started, or a look at any file below a folder `dead` hangs,
as on a network file system whose server is gone.
"""

from __future__ import annotations

import argparse
import builtins
import os
import resource
import runpy
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE = 0.05


def dead_disk(marker: Path) -> None:
    """Let every look at a file below `dead` hang, as the kernel does it: in the thread that asks."""
    exists = os.path.exists

    def hanging(function: Callable[..., Any]) -> Callable[..., Any]:
        def asked(path: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(path, str | os.PathLike) and "/dead/" in os.fspath(path):
                while exists(marker):
                    time.sleep(PAUSE)
            return function(path, *args, **kwargs)

        return asked

    for name in ("stat", "lstat", "open", "access", "scandir", "listdir"):
        setattr(os, name, hanging(getattr(os, name)))
    builtins.open = hanging(open)


def few_threads(marker: Path) -> None:
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if marker.exists():
            raise RuntimeError("can't start new thread")
        start(thread)

    threading.Thread.start = limited


def main() -> None:
    split = sys.argv.index("--")
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int)
    parser.add_argument("--files-at-most", type=int)
    parser.add_argument("--no-output", action="store_true")
    parser.add_argument("--dead-disk", type=Path)
    parser.add_argument("--no-threads", type=Path)
    options = parser.parse_args(sys.argv[1:split])
    if options.files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.files, options.files_at_most or options.files))
    if options.dead_disk:
        dead_disk(options.dead_disk)
    if options.no_threads:
        few_threads(options.no_threads)
    sys.argv = sys.argv[split + 1 :]
    if options.no_output:
        for number in (1, 2):
            os.close(number)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
