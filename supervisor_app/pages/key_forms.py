"""Forms of API keys: what a key is for, what it may ask, and how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy as _

from supervisor_app.common.admin import NamesField
from supervisor_app.pages.until import MomentField
from supervisor_app.traffic.families import FamiliesField
from supervisor_app.traffic.models import ApiKey

if TYPE_CHECKING:
    KeyModelForm = forms.ModelForm[ApiKey]
else:  # Django's own class cannot be subscripted
    KeyModelForm = forms.ModelForm

FRONT = ("name", "note", "allowed_models", "expires_at")
ENDPOINTS = ("allowed_families",)
LIMITS = ("requests_per_minute", "tokens_per_minute", "max_concurrent", "tokens_per_month")
RIGHTS = ("may_read", "may_change", "isolate_cache", "capture")
LABELS = {
    "name": _("Name"),
    "note": _("Owner, note"),
    "requests_per_minute": _("Requests per minute"),
    "tokens_per_minute": _("Tokens per minute"),
    "max_concurrent": _("Requests at once"),
    "tokens_per_month": _("Tokens per month"),
    "may_read": _("May read"),
    "may_change": _("May change"),
    "isolate_cache": _("Isolate its prompts"),
    "capture": _("Keep prompts and answers"),
}
GRACES = [
    ("86400", _("1 day")),
    ("0", _("not at all: at once")),
    ("3600", _("1 hour")),
    ("604800", _("7 days")),
    ("2592000", _("30 days")),
]
"""Times for which an old secret stays good."""


class KeyForm(KeyModelForm):
    """Form of a key that exists. Its name stays: records and sums of its requests have it."""

    allowed_models = NamesField(
        label=_("Models"), help_text=ApiKey._meta.get_field("allowed_models").help_text
    )
    allowed_families = FamiliesField()
    expires_at = MomentField(label=_("Expires (UTC)"), help_text=_("Empty: never."))

    class Meta:
        model = ApiKey
        fields = [*FRONT[1:], *ENDPOINTS, *LIMITS, *RIGHTS]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, label in LABELS.items():
            if name in self.fields:
                self.fields[name].label = label

        for name in LIMITS:
            self.fields[name].required = False

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        return {**cleaned, **{name: cleaned.get(name) or 0 for name in LIMITS}}

    def groups(self) -> list[tuple[Any, list[forms.BoundField]]]:
        """Return the fields as the page groups them."""
        titled = [("", FRONT), ("", ENDPOINTS), (_("Limits"), LIMITS), (_("Rights"), RIGHTS)]
        return [(title, [self[name] for name in names if name in self.fields]) for title, names in titled]


class NewKeyForm(KeyForm):
    """Form of a key that is to be."""

    class Meta(KeyForm.Meta):
        fields = ["name", *KeyForm.Meta.fields]
