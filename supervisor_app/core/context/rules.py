"""Rules of kept contexts: where there are any, what is saved, what may be restored, what was of use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from supervisor_app.common.words import span
from supervisor_app.core.command_line.argv import spelled, spelled_out
from supervisor_app.core.command_line.work import Work, work_of
from supervisor_app.core.diagnosis.named_files import is_router

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.core.context.saved import Basis, SavedContext

SLOT_FLAG = "--slot-save-path"
SAVE_SECONDS = 5.0
"""Longest delay of an end. As long as the grace for which a process may take its time anyway; a common SSD,
which writes 1 GB/s, takes in the most that is kept."""
RESTORE_SECONDS = 5.0
"""Longest delay of a start: a disk that takes longer is slower than many a computation."""
LEAST_TOKENS = 32
"""A shorter prompt is computed again in no time."""
MOST_SLOTS = 16
MOST_BYTES = 4 * 2**30
"""Bytes of one server."""
MOST_TOGETHER = 16 * 2**30
"""Bytes of all servers in a data directory: the oldest go first."""
LEAST_FREE = 2**30
"""Bytes that stay free on the disk."""
KEEP_SECONDS = 7 * 86400.0
"""Age after which nobody goes on with a conversation, and its words are better gone."""
VERIFY_SECONDS = 600.0
"""Time within which an answer has to show that a restored conversation was of use."""
PART_OF_USE = 0.5
"""Part of the shortest restored conversation that an answer must find in the cache to count as going on: the
beginning of a template is alike in all."""
_OF_THE_DOOR = frozenset({"--host", "--port", SLOT_FLAG, "--api-key"})
_PICTURES = frozenset({"-mm", "--mmproj", "-mmu", "--mmproj-url"})


@dataclass(frozen=True, kw_only=True)
class SlotSeen:
    """A slot as its server tells it."""

    id: int
    busy: bool
    tokens: int | None
    """Tokens that it holds; None: it has had no task since its start, and may hold what was restored."""
    task: int = -1
    """Number of its last task, which grows."""


class Use(Enum):
    """Judgement on what was restored."""

    USED = auto()
    UNUSED = auto()
    """Answers came, and none of them went on with what was restored."""
    OPEN = auto()
    """Nobody knows yet."""


def why_not(args: Sequence[str]) -> str:
    """Say why the contexts of a server with these flags cannot be kept, as a sentence; empty: they can."""
    flags = {spelled(word) for word in args}
    words = spelled_out(args)
    if is_router(args):
        return not_kept("it is a router, and its models come and go")
    if SLOT_FLAG in flags:
        return not_kept(
            f"its own flags have {SLOT_FLAG}, so what is saved there is theirs. Drop one of the two"
        )
    if work_of(args) is not Work.TEXT:
        return not_kept("it only embeds or ranks, so it has none")
    if flags & _PICTURES:
        return not_kept("llama-server saves none of a model that sees or hears")
    if "--no-slots" in words:
        return not_kept("with --no-slots it does not tell which are idle")
    if "--no-cache-prompt" in words:
        return not_kept("with --no-cache-prompt it would not use them")
    return ""


def not_kept(reason: str) -> str:
    """Say that the conversations of a server are not kept, although people want it."""
    return f"Its conversations are not kept (keep_context): {reason}."


def flags_that_matter(args: Sequence[str]) -> list[str]:
    """Return the flags without those that say where the server listens, and where it saves."""
    kept: list[str] = []
    words = iter(args)
    for word in words:
        if spelled(word) in _OF_THE_DOOR:
            next(words, None)
        else:
            kept.append(word)
    return kept


def why_not_saved(basis: Basis, started_at: float) -> str:
    """Say why the conversations of a process that runs since then are not saved, as part of a sentence.

    Empty: they may be. `started_at` in Unix seconds.
    """
    newer = basis.changed_at > started_at
    return "the model's file, or llama-server itself, is newer than the process" if newer else ""


def worth_saving(slots: Sequence[SlotSeen]) -> list[SlotSeen]:
    """Return the idle slots that may hold a conversation, those used last first."""
    idle = [slot for slot in slots if not slot.busy and (slot.tokens is None or slot.tokens >= LEAST_TOKENS)]
    return sorted(idle, key=lambda slot: -slot.task)[:MOST_SLOTS]


def why_not_restored(saved: SavedContext, basis: Basis, now: float) -> str:
    """Say why a saved context must not be restored, as part of a sentence; empty: it may.

    `now` in Unix seconds.
    """
    then = saved.basis
    if now - saved.saved_at > KEEP_SECONDS:
        return f"they are older than {span(KEEP_SECONDS)}"
    if then.boot != basis.boot:
        return "the machine was started anew since"
    if then.model != basis.model:
        return "the model's file is another one"
    if then.build != basis.build:
        return "llama-server is another build"
    if then.flags != basis.flags:
        return "the flags are others"
    return ""


def judge(restored: Sequence[int], cached: Sequence[int]) -> tuple[Use, int]:
    """Judge by the first answers whether the restored conversations were of use, and for how many tokens.

    `restored`: tokens of each conversation. `cached`: tokens that each answer since found in the cache, the
    oldest first. As many answers are looked at as conversations were restored: a later one may find its own.
    """
    if not restored:
        return Use.OPEN, 0
    least, most = PART_OF_USE * min(restored), max(restored)
    first = cached[: len(restored)]
    used = sum(min(found, most) for found in first if found >= least)
    if used:
        return Use.USED, used
    return (Use.UNUSED, 0) if len(first) == len(restored) else (Use.OPEN, 0)
