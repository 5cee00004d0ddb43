"""Does it compute where it was told to? From what it writes while it loads. Pure.

llama-server goes on without a GPU when its driver was not up in time, and /health says ok: it is only
slower by a factor of ten.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.argv import spelled_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_GPU_FLAGS = frozenset({"-ngl", "--gpu-layers", "--n-gpu-layers"})
_NO_GPU = re.compile(r"no usable GPU found")
_OFFLOADED = re.compile(r"offloaded (\d{1,6})/(\d{1,6}) layers to GPU")


def gpu_warnings(lines: Iterable[str], args: Sequence[str]) -> tuple[str, ...]:
    """`lines`: what this run has written; `args`: its flags."""
    if not _asks_for_gpu(args):
        return ()
    for line in lines:
        if _NO_GPU.search(line):
            return ("It computes on the CPU: llama-server found no usable GPU, so -ngl is ignored.",)
        if (found := _OFFLOADED.search(line)) and int(found[1]) == 0 and int(found[2]) > 0:
            return (
                f"It computes on the CPU: 0 of {found[2]} layers are on the GPU, although -ngl asks for it.",
            )
    return ()


def _asks_for_gpu(args: Sequence[str]) -> bool:
    """The last one wins; without a flag llama-server takes what there is."""
    asked = [value for flag, value in pairwise(spelled_out(args)) if flag in _GPU_FLAGS]
    return bool(asked) and asked[-1] not in ("0", "auto")
