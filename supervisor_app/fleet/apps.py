from __future__ import annotations

from django.apps import AppConfig


class FleetConfig(AppConfig):
    """Servers and their history. The label is older than the room: tables, rights and addresses go by it."""

    name = "supervisor_app.fleet"
    label = "supervisor_app"
    verbose_name = "Servers"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from supervisor_app.fleet import login_audit, role_groups  # they need Django's own models

        login_audit.install()
        role_groups.install()
