"""The work that a server does, by its flags: it makes text, embeds, or ranks. Pure."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.argv import spelled, spelled_out

if TYPE_CHECKING:
    from collections.abc import Sequence

EMBEDDING_FLAGS = frozenset({"--embedding", "--embeddings"})
RANKING_FLAGS = frozenset({"--rerank", "--reranking"})
_POOLS_WITH_TEXT = frozenset({"mean", "cls", "last"})
"""Values of `--pooling` with which a server that embeds also makes text (llama-server b11669).

With `none`, which is that of most models that chat, a question for text crashes it.
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
    """Return the flag that keeps a server from making text, as it is written; empty: it may make some."""
    wanted = {Work.TEXT: frozenset[str](), Work.EMBEDDINGS: EMBEDDING_FLAGS, Work.RANKING: RANKING_FLAGS}
    work, words = work_of(args), spelled_out(args)
    pooling = [following for word, following in pairwise(words) if word == "--pooling"]
    if work is Work.EMBEDDINGS and pooling and pooling[-1] in _POOLS_WITH_TEXT:
        return ""
    return next((word for word in args if spelled(word) in wanted[work]), "")
