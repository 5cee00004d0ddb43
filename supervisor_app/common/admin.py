"""Helpers of all admins. Needs Django."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import AdminDateWidget, AdminSplitDateTime, AdminTimeWidget
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from collections.abc import Collection

    from django.contrib.admin import ModelAdmin
    from django.db.models import QuerySet
    from django.http import HttpRequest


class ReadOnly:
    """Mixin of an admin whose rows only llamaproxy itself writes."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def question(
    admin: ModelAdmin[Any],
    request: HttpRequest,
    chosen: QuerySet[Any],
    *,
    title: str,
    says: str,
    yes: str,
    about: Collection[object],
) -> TemplateResponse | None:
    """Return the page that asks before an action is done; None: there is nothing to ask, or it was answered.

    `says`: what happens; `yes`: the word of the button; `about`: those of the chosen that it happens to.
    """
    if not about or request.POST.get("post"):
        return None
    context = {
        **admin.admin_site.each_context(request),
        "title": title,
        "says": says,
        "yes": yes,
        "about": about,
        "chosen": chosen,
        "opts": admin.opts,
        "action": request.POST["action"],
        "checkbox": ACTION_CHECKBOX_NAME,
        "media": admin.media,
        "body_class": "delete-confirmation",
    }
    return TemplateResponse(request, "admin/question.html", context)


class NamesField(forms.CharField):
    """A list of names, one a line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, widget=forms.Textarea(attrs={"rows": 3, "cols": 40}), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        """Split the text; blank lines, space around a name and repetitions are dropped."""
        lines = (line.strip() for line in super().clean(value).splitlines())
        return list(dict.fromkeys(line for line in lines if line))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(super().has_changed(self.prepare_value(initial), data))


class SplitDateTime(AdminSplitDateTime):
    """A day and a time, each of which says so to a screen reader; Django's own have no label."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        parts = (AdminDateWidget({"aria-label": _("Date")}), AdminTimeWidget({"aria-label": _("Time")}))
        forms.MultiWidget.__init__(self, parts, attrs)
