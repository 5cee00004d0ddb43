"""Models that llama-server fetches itself: which flags say so, and how far it is. Pure."""

from __future__ import annotations

import re
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


def names_repository(args: Sequence[str]) -> bool:
    """The model itself is one of a repository: `-m` besides would name a file in there."""
    words = spelled_out(args)
    return any(word in _REPOSITORY or (_PRESET.fullmatch(word) and word not in _NO_PRESET) for word in words)


def fetches(args: Sequence[str]) -> bool:
    """llama-server may have to download something before it can load."""
    words = spelled_out(args)
    return "--offline" not in words and (names_repository(words) or not _MORE.isdisjoint(words))
