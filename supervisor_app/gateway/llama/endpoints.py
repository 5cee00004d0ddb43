"""What llama-server does at which path, as far as a gateway has to know it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor_app.gateway.llama import sse, unstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One path that is asked with POST; one that we do not know is taken for something that computes."""

    needs_slot: bool = True
    events: sse.Kind | None = None
    """How it answers when its body says `stream`; None: there the word means nothing."""
    assembled: unstream.Kind | None = None
    """How such a stream becomes the answer that is given without one; None: it does not."""
    several_prompts: bool = False
    """`prompt` may be a list of them."""
    several_answers: bool = False
    """To each, if `n` says so."""


_CHAT = Endpoint(events=sse.CHAT, assembled=unstream.CHAT, several_answers=True)
_TEXT = Endpoint(events=sse.TEXT, assembled=unstream.TEXT, several_prompts=True, several_answers=True)
_NATIVE = Endpoint(events=sse.NATIVE, assembled=unstream.NATIVE, several_prompts=True, several_answers=True)
_RESPONSES = Endpoint(events=sse.RESPONSES, several_answers=True)
_SLOTLESS = Endpoint(needs_slot=False)
_OTHER = Endpoint()

_BY_PATH = {
    "/v1/chat/completions": _CHAT,
    "/chat/completions": _CHAT,
    "/v1/completions": _TEXT,
    "/completions": _NATIVE,
    "/completion": _NATIVE,
    "/infill": Endpoint(events=sse.NATIVE, several_answers=True),
    "/v1/messages": Endpoint(events=sse.MESSAGES),
    "/v1/responses": _RESPONSES,
    "/responses": _RESPONSES,
    "/apply-template": _SLOTLESS,
    "/control": _SLOTLESS,
    "/count_tokens": _SLOTLESS,
    "/detokenize": _SLOTLESS,
    "/input_tokens": _SLOTLESS,
    "/lora-adapters": _SLOTLESS,
    "/models/load": _SLOTLESS,
    "/models/unload": _SLOTLESS,
    "/props": _SLOTLESS,
    "/streams/lookup": _SLOTLESS,
    "/tokenize": _SLOTLESS,
}
_MOST_PARTS = 3
"""Of those paths."""


def endpoint_of(method: str, path: str) -> Endpoint:
    """By the longest end of the path that is known: `--api-prefix` puts something before it."""
    if method != "POST":
        return _SLOTLESS
    parts = path.rsplit("/", _MOST_PARTS)[1:]
    ends = ("/" + "/".join(parts[start:]) for start in range(len(parts)))
    return next((_BY_PATH[end] for end in ends if end in _BY_PATH), _OTHER)
