"""A database from before servers, traffic and alerts were apps of their own: all of it is kept.

Its tables have the right names and columns. Its migrations have other names, and some of its content types,
to which rights and the admin's log refer, are of another app. For the first migrations of the apps alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.db import migrations
from django.db.migrations.recorder import MigrationRecorder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.db.backends.base.schema import BaseDatabaseSchemaEditor
    from django.db.migrations.operations.base import Operation

LABEL = "supervisor_app"
FIRST = "0001_fleet"
LAST_BEFORE = "0017_help_in_forms"
"""The last migration of the one app that had all models."""
COMMIT_BEFORE = "2be7037"
UNFINISHED = 3
"""Exit code, that of a database which cannot be used."""


class MakeUnlessThere(migrations.SeparateDatabaseAndState):
    """Make tables, unless the database has the first of them and so all."""

    def __init__(self, table: str, operations: Sequence[Operation]) -> None:
        super().__init__(database_operations=operations, state_operations=operations)
        self.table = table

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        if self.table not in schema_editor.connection.introspection.table_names():
            super().database_forwards(app_label, schema_editor, from_state, to_state)


def refuse_unfinished(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Raise CommandError when only some of the former migrations were applied: columns are missing then."""
    former = sorted(_former(schema_editor).values_list("name", flat=True))
    if former and LAST_BEFORE not in former:
        raise CommandError(
            f"The database is of an earlier version of llamaproxy, with migrations up to {former[-1]}. Run "
            f"manage.py migrate of commit {COMMIT_BEFORE} on it first, then this version again.",
            returncode=UNFINISHED,
        )


def forget_former(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Delete the notes of the former migrations: one of ours may have the name of one of them some day."""
    _former(schema_editor).delete()


def take_content_types(app: str, *models: str) -> Callable[[Any, BaseDatabaseSchemaEditor], None]:
    """Return what a migration runs so that its app has the content types of these models (in lower case)."""

    def take(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
        content_types = apps.get_model("contenttypes", "ContentType").objects
        former = content_types.using(schema_editor.connection.alias).filter(app_label=LABEL)
        former.filter(model__in=models).update(app_label=app)

    return take


def _former(schema_editor: BaseDatabaseSchemaEditor) -> Any:
    return MigrationRecorder(schema_editor.connection).migration_qs.filter(app=LABEL).exclude(name=FIRST)
