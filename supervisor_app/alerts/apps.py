from __future__ import annotations

from django.apps import AppConfig


class AlertsConfig(AppConfig):
    """Alerts: whom to tell when a server goes down, and who was told."""

    name = "supervisor_app.alerts"
    verbose_name = "Alerts"
    default_auto_field = "django.db.models.BigAutoField"
