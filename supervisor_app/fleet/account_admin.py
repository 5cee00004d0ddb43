"""Accounts in Django's admin: in the audit, and no way to become a superuser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db import transaction

from supervisor_app.fleet.accounts import told_of
from supervisor_app.fleet.audit import note

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    AccountModelAdmin = UserAdmin[User]
else:  # Django's own class cannot be subscripted
    AccountModelAdmin = UserAdmin

FOR_SUPERUSERS = ("is_superuser", "is_staff", "groups", "user_permissions")
"""Fields with which somebody gets more rights."""

admin.site.unregister(User)


@admin.register(User)
class AccountAdmin(AccountModelAdmin):
    """Users. Somebody who may change them and is no superuser neither sees superusers nor gives rights."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        found = super().get_queryset(request)
        return found if request.user.is_superuser else found.filter(is_superuser=False)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if request.user.is_superuser else (*fields, *FOR_SUPERUSERS)

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        vars(form.instance)["told_before"] = told_of(form.instance) if change else None
        return super().save_form(request, form, change)

    def log_addition(self, request: HttpRequest, obj: User, message: Any) -> Any:
        note("add", f"user {obj}", None, told_of(obj))
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: User, message: Any) -> Any:
        """Write the audit; a new password, which has a form of its own, is told as one."""
        before, after = vars(obj).get("told_before"), told_of(obj)
        action = "configure" if before else "set the password of"
        note(action, f"user {obj}", before, after if before else None)
        return super().log_change(request, obj, message)

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        with transaction.atomic():
            note("delete", f"user {obj}", told_of(obj))
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        with transaction.atomic():
            for user in queryset:
                note("delete", f"user {user}", told_of(user))
            super().delete_queryset(request, queryset)
