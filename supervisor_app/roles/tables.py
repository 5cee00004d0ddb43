"""The tables of the database, beside those of this version."""

from __future__ import annotations

import pkgutil
from pathlib import Path

from django.apps import apps
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder


def tables_are_behind() -> bool:
    """Say whether a migration is not applied yet. Raises DatabaseError.

    Their names are enough: Django's plan loads every migration, in each start.
    """
    there = {
        (app.label, migration.name)
        for app in apps.get_app_configs()
        for migration in pkgutil.iter_modules([str(Path(app.path, "migrations"))])
    }
    return not there <= MigrationRecorder(connection).applied_migrations().keys()
