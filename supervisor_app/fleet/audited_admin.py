"""Acts in Django's admin that leave a row in the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Model, QuerySet

from supervisor_app.common.redact import HIDDEN
from supervisor_app.fleet.audit import note

if TYPE_CHECKING:
    from django.http import HttpRequest


class Audited:
    """Mixin of an admin whose rows people write. `audited`: the noun of a row; `secret`: fields not told."""

    audited = ""
    secret: frozenset[str] = frozenset()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)  # type: ignore[misc]
        after = {name: self._told(name, form.cleaned_data.get(name)) for name in form.changed_data}
        before = {name: self._told(name, form.initial.get(name)) for name in after} if change else None
        note("configure" if change else "add", f"{self.audited} {obj}", before, after)

    @transaction.atomic
    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        note("delete", f"{self.audited} {obj}")
        super().delete_model(request, obj)  # type: ignore[misc]

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for each in queryset:
            note("delete", f"{self.audited} {each}")
        super().delete_queryset(request, queryset)  # type: ignore[misc]

    def _told(self, name: str, value: Any) -> Any:
        if name in self.secret:
            return HIDDEN
        if isinstance(value, QuerySet | list):
            return [str(each) for each in value]
        return str(value) if isinstance(value, Model) else value
