"""Watches that staff make and delete, each act with its name in the log of the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.admin.models import ADDITION, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction

from supervisor_app.alerts.models import LineWatch
from supervisor_app.fleet.audit import note

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@transaction.atomic
def add_watch(watch: LineWatch, user: User) -> None:
    """Save a new watch. Raises ValidationError."""
    watch.made_by = user.get_username()
    watch.full_clean()
    watch.save()
    note("add", f"watch {watch.name}", None, _said(watch))
    _note(watch, user, ADDITION, "Watches for a line of a log.")


@transaction.atomic
def delete_watch(watch: LineWatch, user: User) -> None:
    """Delete a watch."""
    note("delete", f"watch {watch.name}", _said(watch))
    _note(watch, user, DELETION, "Not watched for any more.")
    watch.delete()


def _said(watch: LineWatch) -> dict[str, object]:
    return {
        "pattern": watch.pattern,
        "is_pattern": watch.is_pattern,
        "server": watch.server.name if watch.server else None,
    }


def _note(watch: LineWatch, user: User, action: int, words: str) -> None:
    LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(LineWatch),
        object_id=str(watch.pk),
        object_repr=str(watch)[:200],
        action_flag=action,
        change_message=words,
    )
