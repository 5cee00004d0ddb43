"""The three groups of people, and what Django's admin lets admins do.

Made by a migration, and again whenever tables were made: the permissions of a model exist only then
(https://docs.djangoproject.com/en/5.2/topics/auth/default/#permission-caching).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps as every_app
from django.db.models.signals import post_migrate

from supervisor_app.web.rights import Role

if TYPE_CHECKING:
    from django.apps.registry import Apps

OWN_APPS = ("supervisor_app", "traffic", "alerts", "modelfiles")
"""Apps whose models admins may change in Django's admin. Not `auth`: nobody makes a superuser of himself."""


def make_groups(apps: Apps) -> None:
    groups = apps.get_model("auth", "Group").objects
    for role in Role:
        groups.get_or_create(name=role.value)


def grant(apps: Apps, app: str) -> None:
    """Let admins do in Django's admin whatever can be done with the models of an app."""
    admins = apps.get_model("auth", "Group").objects.get(name=Role.ADMIN.value)
    permissions = apps.get_model("auth", "Permission").objects.filter(content_type__app_label=app)
    admins.permissions.add(*permissions.exclude(group=admins))


def after_migrate(app_config: Any, apps: Apps = every_app, **_: Any) -> None:
    if app_config.label in OWN_APPS and "auth" in {each.label for each in apps.get_app_configs()}:
        make_groups(apps)
        grant(apps, app_config.label)


def install() -> None:
    """Do so after each `migrate`, and after the tables of a test were emptied."""
    post_migrate.connect(after_migrate, dispatch_uid="groups of roles")
