"""Endpoints that a key is limited to: as boxes on pages and in the admin, and as people type them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy as _

from supervisor_app.gateway.llama.operations import Family
from supervisor_app.traffic.models import ApiKey

if TYPE_CHECKING:
    from collections.abc import Collection

LABELS = {
    Family.CHAT: _("Chat: /v1/chat/completions, /v1/responses, /v1/messages"),
    Family.COMPLETIONS: _("Text: /v1/completions, /completion, /infill"),
    Family.EMBEDDINGS: _("Embeddings: /v1/embeddings"),
    Family.RERANK: _("Reranking: /v1/rerank"),
    Family.AUDIO: _("Audio: /v1/audio/…"),
    Family.TOKENS: _("Tokens: /tokenize, /detokenize, /apply-template, counts"),
    Family.MODELS: _("Lists of models: /v1/models"),
}
"""Families with the paths that people know them by."""


def families_of(said: str) -> list[str]:
    """Return the families that are named, with commas between, as a key's row has them.

    Raises ValueError: none is named, or one that does not exist.
    """
    named = [name for word in said.split(",") if (name := word.strip().lower())]
    known = ", ".join(Family)
    if unknown := next((name for name in named if name not in set(Family)), ""):
        raise ValueError(f"there are no endpoints {unknown!r}. Name some of {known}.")
    if not named:
        raise ValueError(f"a key without any could ask for nothing. Name some of {known}.")
    return _limited(named)


def _limited(ticked: Collection[str]) -> list[str]:
    """Return the families of a row, in their order. All are no limit, also for those to come."""
    return [] if set(ticked) >= set(Family) else [family.value for family in Family if family in ticked]


class FamiliesField(forms.MultipleChoiceField):
    """Check boxes. A key without a limit has all ticked, and its row an empty list."""

    widget = forms.CheckboxSelectMultiple

    def __init__(self) -> None:
        super().__init__(
            label=_("Endpoints"),
            choices=[(family.value, label) for family, label in LABELS.items()],
            initial=list,
            help_text=ApiKey._meta.get_field("allowed_families").help_text,
            error_messages={"required": _("Tick at least one: a key without any could ask for nothing.")},
        )

    def bound_data(self, data: Any, initial: Any) -> Any:
        return data or [""]  # the boxes of a form that was sent with none ticked stay so

    def prepare_value(self, value: Any) -> Any:
        return value or list(LABELS)

    def clean(self, value: Any) -> list[str]:
        return _limited(super().clean(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)
