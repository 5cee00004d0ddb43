"""How long headers of models take to read: `python -m tests.bench.headers`.

Each beside the bare work of this machine in the same run: to read as many bytes, and to step over as many
strings by their lengths. Files have holes for weights, up to 60 GB.
"""

from __future__ import annotations

import os
import statistics
import struct
import tempfile
import time
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor_app.library.header import read_header
from tests.unit.library.raw import entry, header, tensor

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
FILE_BYTES = 60 * 10**9
TENSORS = 800
CASES = {
    "32 000 tokens": (32_000, 0),
    "150 000 tokens": (150_000, 0),
    "the largest known": (200_000, 446_000),
}
"""Tokens and merges of a vocabulary."""
_LENGTH = struct.Struct("<Q")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.gguf")
        for name, (tokens, merges) in CASES.items():
            size = write(path, tokens, merges)
            words = b"".join(_LENGTH.pack(7) + b"a word." for _ in range(tokens + merges))
            read = median(partial(read_header, path))
            bytes_alone = median(partial(read_bytes, path, size))
            steps_alone = median(partial(step_over, words, tokens + merges))
            bare = f"{size / 1e6:.1f} MB read: {bytes_alone:.1f}; stepped over: {steps_alone:.1f}"
            print(f"{name}: {read:.1f} ms; {bare}")


def write(path: Path, tokens: int, merges: int) -> int:
    """Write a model of 60 GB that is nearly all hole; return the bytes of its header."""
    entries = [
        entry("general.architecture", "llama"),
        entry("tokenizer.ggml.tokens", [f"▁t{number}" for number in range(tokens)]),
        entry("tokenizer.ggml.token_type", [1] * tokens),
        entry("tokenizer.ggml.merges", [f"t{number} t{number // 2}" for number in range(merges)]),
    ]
    infos = [
        tensor(f"blk.{number // 12}.t{number % 12}.weight", (64, 64), 0, number * 16384)
        for number in range(TENSORS)
    ]
    path.write_bytes(header(*entries, *infos, tensors=len(infos), entries=len(entries)))
    size = path.stat().st_size
    os.truncate(path, FILE_BYTES)
    return size


def read_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def step_over(words: bytes, count: int) -> int:
    at, length_at = 0, _LENGTH.unpack_from
    for _ in repeat(None, count):
        at += length_at(words, at)[0] + 8
    return at


def median(work: Callable[[], object]) -> float:
    """Return milliseconds."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


if __name__ == "__main__":
    main()
