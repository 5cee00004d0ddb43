"""The table of llama-server's operations: by method and path, all that a gateway has to know of each. Pure.

Routes are matched as llama-server does it: after percent-decoding (a `%2F` is a slash), with case, and with
nothing added. A trailing or doubled slash makes another path, except at the end of `/slots/<id>`. Text before
a known route is taken for its `--api-prefix`. A path that is not in the table gets the careful answer: never
sent twice, one slot, no server woken for it, and only for keys that may change servers.

In whose words a path's errors are told is in `dialects`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import unquote

from supervisor_app.gateway.llama import presets, sse, unstream
from supervisor_app.gateway.llama.conversations import CONTROL_PATH, LOOKUP_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Scope(StrEnum):
    """A right that a key must have. A key that may change a server may read it, too."""

    INFERENCE = "inference"
    """Ask the model. Every key may."""
    READ = "read"
    """See how a server is configured and what it is doing, also for others."""
    CHANGE = "change"
    """Change it for everybody, or act through it."""


class Family(StrEnum):
    """Operations that every key may ask for, unless it is limited to some families."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    AUDIO = "audio"
    TOKENS = "tokens"
    """Count or list them; fill a template in."""
    MODELS = "models"
    """List them."""


_TEXTUAL = frozenset({Family.CHAT, Family.COMPLETIONS})


class About(StrEnum):
    """Answers that a request is about: they are being made, or go on without their clients."""

    CONVERSATION = "conversation"
    """The stream of the conversation that its query names."""
    CONVERSATIONS = "conversations"
    """Streams of those that its body names."""
    ANSWER = "answer"
    """The one that is being made under the id in its body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Properties of a method at a path. The defaults are the careful answer."""

    pure: bool = False
    """Asking twice does no more than asking once: it may be sent again although it was sent already."""
    needs_slot: bool = True
    """Computes on one of the slots of its server, and waits until one is free."""
    wakes: bool = False
    """Needs the model, so a server that sleeps is started for it."""
    counts_as_use: bool = False
    """A server that is asked this is not idle."""
    scope: Scope = Scope.CHANGE
    family: Family | None = None
    """None: its scope alone says which keys may."""
    relays: bool = False
    """Passes on the answer of some other address: an error in it says nothing about this server."""
    about: About | None = None
    changes_models: bool = False
    """A router is to load, unload, fetch or delete a model."""
    static: bool = False
    """A file of the web UI."""
    events: sse.StreamForm | None = None
    """Form of the stream when the body says `stream`; None: there the word means nothing."""
    assembled: unstream.Recipe | None = None
    """Recipe by which a stream becomes the answer that is given without one; None: it does not."""
    presets: presets.Form | None = None
    """Form by which a preset changes bodies; None: it does not, and its name stands for its server."""
    several_prompts: bool = False
    """`prompt` may be a list of them."""
    several_answers: bool = False
    """Several answers to each prompt, if `n` says so."""

    @property
    def makes_text(self) -> bool:
        """Can a server that only embeds not answer it?"""
        return self.family in _TEXTUAL

    @property
    def is_passed_on(self) -> bool:
        """Does no more happen to a request than that one server gets it?"""
        return self.about is None and not self.changes_models


_COMPUTES = Operation(pure=True, wakes=True, counts_as_use=True, scope=Scope.INFERENCE, presets=presets.OTHER)
_COUNTS = replace(_COMPUTES, needs_slot=False, family=Family.TOKENS, presets=presets.TOKENS)
"""Needs the model's vocabulary or template, but no slot."""
_COUNTS_CHAT = replace(_COUNTS, presets=presets.CHAT)
_READS = Operation(pure=True, needs_slot=False, scope=Scope.READ)
_PUBLIC = replace(_READS, scope=Scope.INFERENCE)
_LISTS = replace(_PUBLIC, family=Family.MODELS)
_FILE = replace(_PUBLIC, static=True)
_CHANGES = Operation(needs_slot=False)
_ACTS = replace(_CHANGES, wakes=True, counts_as_use=True)
"""Changes the model or what is in its cache."""
_CHANGES_MODELS = replace(_CHANGES, changes_models=True)
_RELAYS = replace(_CHANGES, relays=True)
_STEERS = replace(_CHANGES, scope=Scope.INFERENCE)
"""Changes an answer that is being made, and nothing else."""

_TALKS = replace(_COMPUTES, family=Family.CHAT)
_CHAT = replace(_TALKS, events=sse.CHAT, assembled=unstream.CHAT, several_answers=True, presets=presets.CHAT)
_TEXT = replace(
    _COMPUTES,
    family=Family.COMPLETIONS,
    events=sse.TEXT,
    assembled=unstream.TEXT,
    several_prompts=True,
    several_answers=True,
    presets=presets.TEXT,
)
_NATIVE = replace(_TEXT, events=sse.NATIVE, assembled=unstream.NATIVE, presets=presets.NATIVE)
_INFILL = replace(_NATIVE, assembled=None, several_prompts=False)
_RESPONSES = replace(_TALKS, events=sse.RESPONSES, several_answers=True, presets=presets.RESPONSES)
_MESSAGES = replace(_TALKS, events=sse.MESSAGES, presets=presets.MESSAGES)
_AUDIO = replace(_COMPUTES, family=Family.AUDIO, events=sse.OTHER)
_EMBEDS = replace(_COMPUTES, family=Family.EMBEDDINGS)
_RANKS = replace(_COMPUTES, family=Family.RERANK)

_POSTED = {
    "/v1/chat/completions": _CHAT,
    "/chat/completions": _CHAT,
    "/v1/completions": _TEXT,
    "/completions": _NATIVE,
    "/completion": _NATIVE,
    "/infill": _INFILL,
    "/v1/messages": _MESSAGES,
    "/v1/responses": _RESPONSES,
    "/responses": _RESPONSES,
    "/v1/audio/transcriptions": _AUDIO,
    "/audio/transcriptions": _AUDIO,
    "/v1/audio/translations": _AUDIO,
    "/audio/translations": _AUDIO,
    "/v1/audio/speech": _AUDIO,
    "/audio/speech": _AUDIO,
    "/v1/embeddings": _EMBEDS,
    "/embeddings": _EMBEDS,
    "/embedding": _EMBEDS,
    "/v1/rerank": _RANKS,
    "/v1/reranking": _RANKS,
    "/rerank": _RANKS,
    "/reranking": _RANKS,
    "/v1/systemone": _RANKS,
    "/tokenize": _COUNTS,
    "/detokenize": _COUNTS,
    "/apply-template": _COUNTS_CHAT,
    "/v1/chat/completions/input_tokens": _COUNTS_CHAT,
    "/chat/completions/input_tokens": _COUNTS_CHAT,
    "/v1/responses/input_tokens": replace(_COUNTS, presets=presets.RESPONSES),
    "/responses/input_tokens": replace(_COUNTS, presets=presets.RESPONSES),
    "/v1/messages/count_tokens": replace(_COUNTS, presets=presets.MESSAGES),
    CONTROL_PATH: replace(_STEERS, about=About.ANSWER),
    LOOKUP_PATH: replace(_STEERS, pure=True, about=About.CONVERSATIONS),
    "/props": _CHANGES,
    "/lora-adapters": _ACTS,
    "/models": _CHANGES_MODELS,
    "/models/load": replace(_ACTS, changes_models=True),
    "/models/unload": _CHANGES_MODELS,
    "/tools": _CHANGES,
    "/cors-proxy": _RELAYS,
}
_GOT = {
    "/health": _PUBLIC,
    "/v1/health": _PUBLIC,
    "/models": _LISTS,
    "/v1/models": _LISTS,
    "/models/sse": _READS,
    "/metrics": _READS,
    "/props": _READS,
    "/slots": _READS,
    "/lora-adapters": _READS,
    "/v1/stream": replace(_PUBLIC, counts_as_use=True, about=About.CONVERSATION),
    "/tools": _CHANGES,
    "/cors-proxy": _RELAYS,
    "/index.html": _FILE,
}
_DELETED = {
    "/v1/stream": replace(_STEERS, about=About.CONVERSATION),
    "/models": _CHANGES_MODELS,
}
_MOST_PARTS = 4
"""Most parts of those paths."""
_SLOTS = re.compile(r"/slots/?\Z")
_SLOT = re.compile(r"/slots/[^/]*/?\Z")
_MODEL = re.compile(r"/v1/models/.")
_UI = re.compile(
    r"\A/\Z|/_app/|\.(?:css|gif|html|ico|jpg|js|json|map|png|svg|ttf|txt|wasm|webmanifest|webp|woff2?)\Z"
)

_UNKNOWN = {
    "GET": _READS,
    "HEAD": _READS,
    "OPTIONS": _PUBLIC,
    "DELETE": _CHANGES,
}
_OTHER = Operation()


def operation_of(method: str, path: str, query: str = "") -> Operation:
    """Look up a request. `path` is decoded and without the query, which is as its client wrote it."""
    if query and _SLOTS.search(path) and "action" in unquote(query):
        return _ACTS  # so builds that take the number of the slot from the query name it
    if method == "POST":
        found = _ACTS if _SLOT.search(path) else _longest_end(_POSTED, path)
    elif method in ("GET", "HEAD"):
        found = _longest_end(_GOT, path) or _unlisted(path)
        if found is not None and method == "HEAD":
            found = replace(found, wakes=False, counts_as_use=False)
    else:
        found = _longest_end(_DELETED, path) if method == "DELETE" else None
    return found or _UNKNOWN.get(method, _OTHER)


def _unlisted(path: str) -> Operation | None:
    """Look up what is read by any of many paths."""
    if _MODEL.search(path):
        return _GOT["/v1/models"]
    return _FILE if _UI.search(path) else None


def _longest_end(known: Mapping[str, Operation], path: str) -> Operation | None:
    return next((known[end] for end in _ends_of(path) if end in known), None)


def _ends_of(path: str) -> Iterator[str]:
    parts = path.rsplit("/", _MOST_PARTS)[1:]
    return ("/" + "/".join(parts[start:]) for start in range(len(parts)))
