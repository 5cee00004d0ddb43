"""What llama-server does at which path. Pure. By its end: `--api-prefix` puts something before it."""

from __future__ import annotations

_SLOTLESS = (
    "/apply-template",
    "/control",
    "/count_tokens",
    "/detokenize",
    "/input_tokens",
    "/lora-adapters",
    "/models/load",
    "/models/unload",
    "/props",
    "/streams/lookup",
    "/tokenize",
)
_STREAMING = ("/completion", "/completions", "/infill", "/messages", "/responses")


def needs_slot(method: str, path: str) -> bool:
    """Only what computes does, and that is a POST; one that we do not know is taken for it."""
    return method == "POST" and not path.endswith(_SLOTLESS)


def may_stream(path: str) -> bool:
    """Is it answered by events when its body says `stream`? Elsewhere the word means nothing."""
    return path.endswith(_STREAMING)
