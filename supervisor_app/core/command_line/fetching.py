"""Models that llama-server fetches itself: which flags say so, and how far it is. Pure."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.argv import spelled_out

if TYPE_CHECKING:
    from collections.abc import Sequence

_REPOSITORY = frozenset({"-hf", "-hfr", "--hf-repo", "-dr", "--docker-repo"})
_MORE = frozenset(
    {
        *("-mu", "--model-url", "-mmu", "--mmproj-url", "-hfv", "-hfrv", "--hf-repo-v"),
        *("-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf"),
    }
)
_PRESET = re.compile(r"--(?:embd|fim|gpt|gemma|qwen|vision|tts|[\w-]*-default)[\w.-]*")
"""Flags such as `--embd-gemma-default` and `--fim-qwen-7b-spec`, each of which stands for a repository."""
_NO_PRESET = frozenset({"--tts-use-guide-tokens"})


def repository_of(args: Sequence[str]) -> str:
    """Return the repository of the model itself, or the flag that stands for one; empty: there is none.

    `-m` besides would name a file in there.
    """
    for word, following in pairwise((*spelled_out(args), "")):
        if word in _REPOSITORY:
            return following or word
        if _PRESET.fullmatch(word) and word not in _NO_PRESET:
            return word.removeprefix("--")
    return ""


def names_repository(args: Sequence[str]) -> bool:
    """Tell whether the model itself is one of a repository."""
    return bool(repository_of(args))


def fetches(args: Sequence[str]) -> bool:
    """llama-server may have to download something before it can load."""
    words = spelled_out(args)
    return "--offline" not in words and (names_repository(words) or not _MORE.isdisjoint(words))
