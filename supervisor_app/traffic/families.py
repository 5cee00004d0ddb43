"""Field of the endpoints that a key is limited to, for pages and the admin."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from supervisor_app.gateway.llama.operations import Family
from supervisor_app.traffic.models import ApiKey

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
        ticked: list[str] = super().clean(value)
        return [] if set(ticked) >= set(LABELS) else ticked

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)
