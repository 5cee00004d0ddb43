"""manage.py with a hard limit of file descriptors that nobody may raise: `python few_files.py NUMBER manage.py …`."""

from __future__ import annotations

import resource
import runpy
import sys


def main() -> None:
    number = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
