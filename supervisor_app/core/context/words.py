"""Sentences about kept contexts, for console and page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.common.words import counted, size

if TYPE_CHECKING:
    from supervisor_app.core.context.saved import Kept


def said_of_saving(kept: Kept) -> str:
    """Say what was saved before an end; empty: there was nothing to save."""
    return _said("Saved", kept, "Not all was saved" if kept.tokens else "Its conversations are not saved")


def said_of_restoring(kept: Kept) -> str:
    """Say what was restored at a start; empty: there was nothing to restore."""
    return _said(
        "Restored", kept, "Not all was restored" if kept.tokens else "Its conversations are not restored"
    )


def said_of_use(tokens: int) -> str:
    return f"That was of use: {counted(tokens, 'token')} were not computed again."


def said_of_no_use(answers: int) -> str:
    told = "the first answer did" if answers == 1 else f"none of the first {answers} answers did"
    return (
        f"It was a restore that did nothing so far: {told}{' not' if answers == 1 else ''} go on with them."
    )


def _said(verb: str, kept: Kept, trouble: str) -> str:
    parts = []
    if kept.tokens:
        conversations = counted(kept.total, "conversation")
        parts.append(
            f"{verb} {len(kept.tokens)} of {conversations}, {counted(sum(kept.tokens), 'token')} "
            f"({size(kept.bytes)}, {round(kept.seconds * 1000)} ms)."
        )
    if kept.problem:
        parts.append(f"{trouble}: {kept.problem}.")
    return " ".join(parts)
