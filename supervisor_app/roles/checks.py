"""System checks for the misconfigurations we know. `manage.py check` prints them."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004

OURS = "llamaproxy"
"""Tag of these checks. Our commands run them alone: Django's own find faults of the code, and take 80 ms."""


@register(OURS)
def check_channel_layer(**kwargs: Any) -> list[CheckMessage]:
    backend = settings.CHANNEL_LAYERS.get("default", {}).get("BACKEND", "")
    if backend == "channels_redis.core.RedisChannelLayer":
        return [
            Error(
                "The core Redis channel layer loses every idle page with redis-py 8.",
                hint="Use channels_redis.pubsub.RedisPubSubChannelLayer, as llamaproxy.settings does.",
                id="llamaproxy.E001",
            )
        ]
    return []


@register(OURS)
def check_sqlite_transactions(**kwargs: Any) -> list[CheckMessage]:
    database = settings.DATABASES["default"]
    if database["ENGINE"] != "django.db.backends.sqlite3":
        return []
    if database.get("OPTIONS", {}).get("transaction_mode") != "IMMEDIATE":
        return [
            Error(
                "SQLite without transaction_mode IMMEDIATE fails at once when two processes write.",
                hint="Keep the OPTIONS of llamaproxy.settings.",
                id="llamaproxy.E002",
            )
        ]
    return []


@register(OURS)
def check_allowed_hosts(**kwargs: Any) -> list[CheckMessage]:
    if "*" in settings.ALLOWED_HOSTS:
        return [
            Warning(
                "ALLOWED_HOSTS=* switches off the check of who may open a WebSocket.",
                hint="Name the hosts that people type into their browsers.",
                id="llamaproxy.W001",
            )
        ]
    return []


@register(OURS)
def check_platform(**kwargs: Any) -> list[CheckMessage]:
    if sys.platform == "win32":
        return [
            Error(
                "llamaproxy does not run on Windows: it needs POSIX signals and process groups.",
                hint="Run it in WSL 2.",
                id="llamaproxy.E003",
            )
        ]
    return []
