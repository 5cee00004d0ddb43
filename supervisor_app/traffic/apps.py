from __future__ import annotations

from django.apps import AppConfig


class TrafficConfig(AppConfig):
    """API keys and what was asked with them."""

    name = "supervisor_app.traffic"
    verbose_name = "Requests"
    default_auto_field = "django.db.models.BigAutoField"
