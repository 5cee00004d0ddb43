"""Search a large log beside grep: how fast, for a text, a pattern, and what is without a text.

    python -m tests.bench.logsearch --megabytes 10000

The file lies on disk as a server leaves it. Both read it from the page cache once it has been read; with more
than the memory both read the disk. Rounds take turns. Read the ratio.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from supervisor_app.core.machine.logs import LogFile
from supervisor_app.logs.hidden import Hider
from supervisor_app.logs.history import History
from supervisor_app.logs.search import Budget, Filter, Matcher, search

NEEDLE = "cudaMalloc failed"
RARE = f"0.10.000.000 E ggml_cuda: {NEEDLE}: out of memory"
LINES = (
    "slot update_slots: id  {0} | task {1} | new prompt, n_ctx_slot = 4096, task.n_tokens = {2}",
    "slot print_timing: id  {0} | task {1} | prompt eval time = {2}.01 ms / {0} tokens",
    "srv  log_server_r: done request: POST /v1/chat/completions 127.0.0.1 200",
)
BANNER = "srv  llama_server: CPU : SSE3 = 1 | AVX2 = 1 | LLAMAFILE = 1 | OPENMP = 1 | REPACK = 1"
"""A line that looks a little like an error, as each start writes it."""
SEARCHES = {
    "text": (Filter(text="cudaMalloc failed"), ["-F", "-i", NEEDLE]),
    "exact text": (Filter(text=NEEDLE), ["-F", NEEDLE]),
    "pattern": (
        Filter(text=r"cuda\w+ failed: .*memory", is_pattern=True),
        ["-E", r"cuda\w+ failed: .*memory"],
    ),
    "errors": (Filter(levels=frozenset("E")), ["-E", r"^[0-9.]+ [EF] "]),
}


def write(path: Path, size: int, starts: int) -> None:
    """Write a log of about `size` bytes, with a hit every 100 MB and a banner every `starts` lines."""
    lines = []
    for number in range(400_000):
        line = BANNER if number % starts == 0 else LINES[number % len(LINES)]
        text = line.format(number % 4, number, number % 997)
        lines.append(f"{number // 6000}.{number // 100 % 60:02}.000.{number % 1000:03} I {text}\n")
    block = "".join(lines).encode()
    written = 0
    with path.open("wb") as file:
        while written < size:
            written += file.write(block)
            if written // 100_000_000 != (written - len(block)) // 100_000_000:
                written += file.write(f"{RARE}\n".encode())


def ours(log: LogFile, wanted: Filter) -> tuple[float, int]:
    began = time.perf_counter()
    with History.open(log) as history:
        found = search(history, Matcher(wanted, Hider()), None, Budget(lines=10**9, seconds=1e9))
    return time.perf_counter() - began, len(found.lines)


def grep(log: LogFile, arguments: list[str]) -> tuple[float, int]:
    began = time.perf_counter()
    done = subprocess.run(["grep", *arguments, str(log.path)], capture_output=True, check=False)
    return time.perf_counter() - began, done.stdout.count(b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=100_000, help="lines from one start to the next")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        log = LogFile(path=Path(directory) / "bench.log")
        write(log.path, options.megabytes * 1_000_000, options.starts)
        size = log.size() / 1e6
        print(f"{size:.0f} MB, medians of {options.rounds} rounds in turns")
        for name, (wanted, arguments) in SEARCHES.items():
            rounds = [(ours(log, wanted), grep(log, arguments)) for _ in range(options.rounds)]
            (_, found), (_, greps) = rounds[0]
            if found != greps:
                sys.exit(f"{name}: {found} lines, grep finds {greps}")
            mine, theirs = (sorted(each[side][0] for each in rounds)[options.rounds // 2] for side in (0, 1))
            speeds = f"{size / mine:6.0f} MB/s, grep {size / theirs:6.0f} MB/s"
            print(f"{name:12} {found:4} lines  {speeds}, ratio {theirs / mine:.2f}")


if __name__ == "__main__":
    main()
