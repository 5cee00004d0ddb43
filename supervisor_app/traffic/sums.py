"""The columns of `UsageDay`, for those who write and those who show them."""

from __future__ import annotations

KEEP_DAYS = 400
"""Days of sums: a year, and the month that it is compared with."""
PLACE = ("day", "key", "server", "model")
SUMS = ("requests", "failed", "held", "prompt_tokens", "cached_tokens", "generated_tokens")
