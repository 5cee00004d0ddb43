"""Tokens of a request, as llama-server counts them."""

from __future__ import annotations

from typing import NamedTuple


class Usage(NamedTuple):
    """Tokens that the server counted. None: the server did not say."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    """Tokens of the prompt that were in the cache."""
    generated_tokens: int | None = None
    tokens_per_second: float | None = None
    drafted_tokens: int | None = None
    """Tokens that a smaller model or the prompt proposed (speculative decoding)."""
    accepted_tokens: int | None = None
    """Drafted tokens that the model took."""


NO_USAGE = Usage()
