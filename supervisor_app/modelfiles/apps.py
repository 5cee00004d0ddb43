from __future__ import annotations

from django.apps import AppConfig


class ModelFilesConfig(AppConfig):
    """Models on the disks of the nodes, and what is being downloaded to them."""

    name = "supervisor_app.modelfiles"
    verbose_name = "Models"
    default_auto_field = "django.db.models.BigAutoField"
