from __future__ import annotations

from django.apps import AppConfig


class SupervisorAppConfig(AppConfig):
    name = "supervisor_app"
    verbose_name = "llamaproxy"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from supervisor_app import checks  # noqa: F401  (registers them)
