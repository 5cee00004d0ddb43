"""A database from before servers, traffic and alerts were apps of their own: all of it is kept.

Its tables have the right names. Some of its content types, to which rights and the admin's log refer, are of
another app than its models are now. For the first migrations of the apps alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import migrations
from django.db.migrations.operations.base import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.backends.base.schema import BaseDatabaseSchemaEditor

LABEL = "supervisor_app"
"""The one app that had all models. `0001_fleet` replaces its migrations; a database may have some of them."""


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


class TakeOver(Operation):
    """Take models (in lower case) over from the one app that had all, with their content types."""

    reduces_to_sql = False

    def __init__(self, *models: str) -> None:
        self.models = models

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Forget the models under their former app: there they are while its migrations are finished."""
        for model in self.models:
            if (LABEL, model) in state.models:
                state.remove_model(LABEL, model)

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        self._move_content_types(schema_editor, from_state, LABEL, app_label)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        self._move_content_types(schema_editor, from_state, app_label, LABEL)

    def _move_content_types(
        self, schema_editor: BaseDatabaseSchemaEditor, state: Any, former: str, app_label: str
    ) -> None:
        content_types = state.apps.get_model("contenttypes", "ContentType").objects
        theirs = content_types.using(schema_editor.connection.alias).filter(app_label=former)
        theirs.filter(model__in=self.models).update(app_label=app_label)

    def describe(self) -> str:
        return f"Take {', '.join(self.models)} over from {LABEL}"
