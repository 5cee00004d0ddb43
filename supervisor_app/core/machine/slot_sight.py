"""A slot as /slots tells of it, in the words of several builds. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor_app.core.sightings import Slot

if TYPE_CHECKING:
    from collections.abc import Mapping


def decoded_of(slot: Mapping[str, Any]) -> Any:
    """Return the tokens of the answer: `next_token` is a list in newer builds, an object in older ones."""
    token = slot.get("next_token")
    if isinstance(token, list):
        token = token[0] if token else None
    return token.get("n_decoded") if isinstance(token, dict) else slot.get("n_decoded")


def slot_of(told: Mapping[str, Any]) -> Slot:
    """Return a slot as a value.

    `n_prompt_tokens` is all that lies in its context (seen in b11669: it grows with each batch and each
    token), in builds before that the whole prompt: so the context holds at least what both of them tell.
    """
    cached, processed = _number(told, "n_prompt_tokens_cache"), _number(told, "n_prompt_tokens_processed")
    decoded = decoded_of(told)
    count = decoded if isinstance(decoded, int) else 0
    task = told.get("id_task")
    return Slot(
        id=_number(told, "id"),
        task=task if isinstance(task, int) else None,
        works=bool(told.get("is_processing")),
        cached=cached,
        processed=processed,
        decoded=count,
        used=max(_number(told, "n_prompt_tokens"), cached + processed + count),
        size=_number(told, "n_ctx"),
    )


def _number(told: Mapping[str, Any], key: str) -> int:
    value = told.get(key)
    return value if isinstance(value, int) and value > 0 else 0
