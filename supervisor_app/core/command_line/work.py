"""The work that a server does, by its flags: it makes text, embeds, or ranks. Pure."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.argv import spelled

if TYPE_CHECKING:
    from collections.abc import Sequence

EMBEDDING_FLAGS = frozenset({"--embedding", "--embeddings"})
RANKING_FLAGS = frozenset({"--rerank", "--reranking"})
_POOLS_WITH_TEXT = frozenset({"mean", "cls", "last", "rank"})
"""Values of `--pooling` with which a server that embeds or ranks also makes text (llama-server b11669).

With `none`, which is that of most models that chat, a question for text ends it with SIGSEGV.
"""


class Work(StrEnum):
    """Work of a server, in the order in which a name that several could have belongs to one of them."""

    TEXT = "text"
    EMBEDDINGS = "embeddings"
    RANKING = "ranking"


def work_of(args: Sequence[str]) -> Work:
    flags = {spelled(word) for word in args}
    if flags & RANKING_FLAGS:
        return Work.RANKING
    return Work.EMBEDDINGS if flags & EMBEDDING_FLAGS else Work.TEXT


def textless_flag(args: Sequence[str]) -> str:
    """Return the flag because of which a question for text may crash a server, as written; else nothing."""
    flag = pooling = ""
    for word, following in pairwise((*args, "")):
        name = spelled(word)
        if name in EMBEDDING_FLAGS | RANKING_FLAGS:
            flag = flag or word
        if name in RANKING_FLAGS:
            pooling = "rank"
        elif name == "--pooling":
            pooling = following
    return "" if pooling in _POOLS_WITH_TEXT else flag
