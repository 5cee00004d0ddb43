"""The model that a command line names. Pure."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.argv import spelled_out
from supervisor_app.core.command_line.fetching import repository_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_PART = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)")


def named_model(argv: Sequence[str]) -> str:
    """Return the name of the model's file without its folder, else its repository; empty: none is named.

    The first part of a model in parts stands for all; the last `-m` counts, as llama-server has it.
    """
    words = spelled_out(argv)
    paths = [following for word, following in pairwise(words) if word in ("-m", "--model")]
    if not paths:
        return repository_of(words)
    return _PART.sub("", re.split(r"[/\\]", paths[-1])[-1])
