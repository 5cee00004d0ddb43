"""The form of a server in the admin, as a person fills it in."""

from __future__ import annotations

LIST = "/admin/supervisor_app/llamaserver/"
ADD = f"{LIST}add/"
FILLED = {
    "name": "default",
    "node": "local",
    "host": "localhost",
    "port": "8134",
    "model_path": "m.gguf",
    "models_dir": "",
    "args": "",
    "api_key": "",
    "max_retries": "5",
    "retry_backoff_ms": "1000",
    "max_backoff_ms": "30000",
    "stable_after_ms": "60000",
    "drain_seconds": "30",
    "stop_grace_ms": "5000",
    "health_check_interval_ms": "1000",
    "health_check_timeout_ms": "5000",
    "max_health_checks": "60",
    "max_load_seconds": "600",
    "stall_seconds": "180",
    "max_memory_mb": "0",
    "canary_minutes": "0",
    "hold_seconds": "120",
    "idle_stop_seconds": "0",
    "max_concurrent": "0",
    "max_queue": "256",
    "aliases": "",
    "presets": "",
    "priority": "0",
}


def change_url(server):
    return f"{LIST}{server.pk}/change/"
