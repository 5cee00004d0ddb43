"""A moment that people choose in a form: a time from now, or a date."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

DATE = "date"
"""The choice that the other field makes."""


class MomentField(forms.DateTimeField):
    """A date and a time of UTC, which the browser helps to choose."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
        super().__init__(required=False, widget=widget, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return value.astimezone(UTC).replace(tzinfo=None) if hasattr(value, "astimezone") else value


class UntilForm(forms.Form):
    """Form of a moment: `cleaned_data["ends_at"]`. `spans`: seconds with their words; 0: now."""

    span = forms.ChoiceField(label=gettext_lazy("For"))
    until = MomentField(label=gettext_lazy("Or until (UTC)"))

    def __init__(self, *args: Any, spans: list[tuple[str, Any]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["span"]
        if isinstance(field, forms.ChoiceField):
            field.choices = [*spans, (DATE, gettext_lazy("until the date below"))]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        until, span, now = cleaned.get("until"), cleaned.get("span"), timezone.now()
        if self.errors:
            return cleaned
        if until is not None and until <= now:
            raise ValidationError({"until": _("That moment is over. Choose a later one.")})
        if span == DATE and until is None:
            message = _("Write the date until which it is, or choose a time from now.")
            raise ValidationError({"until": message})
        seconds = int(str(span)) if str(span).isdecimal() else 0
        cleaned["ends_at"] = until if until is not None else now + timedelta(seconds=seconds)
        return cleaned
