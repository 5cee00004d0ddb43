from __future__ import annotations

import logging

from django.apps import AppConfig
from django.conf import settings

log = logging.getLogger(__name__)


class SupervisorAppConfig(AppConfig):
    name = "supervisor_app"
    verbose_name = "llamaproxy"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from supervisor_app import checks  # noqa: F401  (registers them)

        for sentence in settings.DATA_DIR_MENDED:
            log.warning("🔒 [DATA] %s", sentence)
