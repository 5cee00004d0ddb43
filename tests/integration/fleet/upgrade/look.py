"""What is in the database of an installation, as JSON: run as a process of its own, which reads DATABASE_URL.

`python look.py rows` for the rows alone, whatever is migrated; `all` for what people see.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llamaproxy.settings")
django.setup()

from django.apps import apps  # noqa: E402
from django.contrib import admin  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.migrations.executor import MigrationExecutor  # noqa: E402
from django.test import Client  # noqa: E402


def rows() -> dict[str, list[dict[str, str]]]:
    """Read every table but that of the migrations, whatever the order of its columns."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in cursor.description]
            found[table] = [dict(zip(names, map(str, row), strict=True)) for row in cursor.fetchall()]
    found.pop("django_migrations", None)
    return {table: sorted(those, key=lambda row: sorted(row.items())) for table, those in found.items()}


def schema() -> dict[str, Any]:
    """Columns, indexes and constraints of every table of ours."""
    look, found = connection.introspection, {}
    with connection.cursor() as cursor:
        for table in sorted(model._meta.db_table for model in apps.get_models(include_auto_created=True)):
            columns = {
                column.name: [str(column.type_code), str(column.display_size), column.null_ok]
                for column in look.get_table_description(cursor, table)
            }
            # SQLite numbers constraints that have no name of their own.
            constraints = sorted(
                json.dumps({**of, "name": "" if name.startswith("__") else name}, sort_keys=True, default=str)
                for name, of in look.get_constraints(cursor, table).items()
            )
            found[table] = {"columns": columns, "constraints": constraints}
    return found


MADE_SINCE = {"linewatch"}
"""Models of the admin that no version before had: they have no address of before."""


def pages() -> dict[str, int]:
    """The status of every page of every admin as the superuser gets it, by addresses as they were before."""
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.get(username="boss"))
    found = {}
    admin.autodiscover()
    for model in admin.site._registry:
        is_ours = model._meta.label.startswith(("supervisor_app.", "traffic.", "alerts."))
        if is_ours and model._meta.model_name not in MADE_SINCE:
            address = f"/admin/supervisor_app/{model._meta.model_name}/"
            rows = model._default_manager.all()[:1]
            for path in (address, *(f"{address}{row.pk}/change/" for row in rows)):
                found[path] = client.get(path, follow=True).status_code
    return found


def everything() -> dict[str, Any]:
    executor = MigrationExecutor(connection)
    return {
        "rows": rows(),
        "schema": schema(),
        "pages": pages() if User.objects.filter(username="boss").exists() else {},
        "rights": {user.username: sorted(user.get_all_permissions()) for user in User.objects.all()},
        "to do": [
            str(migration) for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())
        ],
        "applied": sorted(" ".join(each) for each in executor.loader.applied_migrations),
    }


if __name__ == "__main__":
    print(json.dumps(everything() if sys.argv[1] == "all" else rows()))
