from __future__ import annotations

import gc
import logging

from django.apps import AppConfig
from django.conf import settings

log = logging.getLogger(__name__)


class RolesConfig(AppConfig):
    """Commands that run the processes of an installation. No models."""

    name = "supervisor_app.roles"

    def ready(self) -> None:
        from supervisor_app.roles import checks  # noqa: F401  (registers them)

        # This app is the last one. All that is loaded stays: it need never be searched for garbage.
        gc.freeze()
        gc.enable()

        for sentence in settings.DATA_DIR_MENDED:
            log.warning("🔒 [DATA] %s", sentence)
