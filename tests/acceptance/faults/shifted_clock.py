"""manage.py on a machine whose clock is wrong by as many seconds as a file says. The product knows nothing of it.

    python shifted_clock.py FILE manage.py ARGUMENT…

What is monotonic goes on as ever, as it does when somebody sets the clock.
"""

from __future__ import annotations

import runpy
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from django.utils import timezone


def main() -> None:
    offset = Path(sys.argv[1])
    right = time.time
    time.time = lambda: right() + float(offset.read_text())
    timezone.now = lambda: datetime.fromtimestamp(time.time(), UTC)
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
