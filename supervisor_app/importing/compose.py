"""Services of Docker Compose that run llama-server. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from supervisor_app.importing.command import split
from supervisor_app.importing.containers import (
    EVERYWHERE,
    LLAMA,
    PORT,
    PUBLISHED,
    Volume,
    map_paths,
    volume_of,
)
from supervisor_app.importing.flags import is_llama_server, server_of
from supervisor_app.importing.found import Found, ImportMistakeError, Server, remark

if TYPE_CHECKING:
    from supervisor_app.importing.yaml_text import Yaml

_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}")
_SPAN = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_TAKEN = (
    "command",
    "entrypoint",
    "environment",
    "volumes",
    "ports",
    "restart",
    "stop_grace_period",
    "deploy",
)
_SILENT = ("container_name", "image", "healthcheck", "runtime", "gpus", "devices", "pull_policy", "ipc")
"""Keys that only matter to containers, or that llamaproxy makes needless."""
ADVICE = {
    "env_file": "write its variables into environment.",
    "depends_on": "every server starts by itself.",
    "mem_limit": "max_memory_mb restarts a server with more memory of its own, once it is idle.",
    "networks": "servers listen on host and port; programs use the gateway.",
}
_PREFACE = "The llama-server of an image is not taken along: install one, or name its path in [engines.NAME]."
_NONE = "it is for containers, and has no counterpart."


def read_compose(yaml: Yaml) -> Found:
    """Raises ImportMistakeError."""
    found = Found(kind="a Docker Compose file", preface=_PREFACE)
    for key, value in yaml.data.items():
        if key not in ("services", "version", "name") and not str(key).startswith("x-"):
            found.remarks.append(remark(yaml.line(str(key)), str(key), value, _NONE))
    for name in yaml.mapping("services"):
        service = yaml.mapping("services", name)
        if _runs_llama_server(yaml, name, service):
            _read_service(found, yaml, name, service)
        else:
            found.remarks.append(
                f"line {yaml.line('services', name)}: {name} ({service.get('image', 'built here')}) is left "
                "out: it does not run llama-server. Keep it in Compose."
            )
    return found


def _runs_llama_server(yaml: Yaml, name: str, service: dict[str, Any]) -> bool:
    words = [*_words(yaml, name, "entrypoint", service), *_words(yaml, name, "command", service)]
    runs_flags = not words or words[0].startswith("-")
    return is_llama_server(words) or (runs_flags and bool(LLAMA.search(str(service.get("image", "")))))


def _read_service(found: Found, yaml: Yaml, name: str, service: dict[str, Any]) -> None:
    at = ("services", name)
    words = [*_words(yaml, name, "entrypoint", service), *_words(yaml, name, "command", service)]
    if words[:1] == ["--server"]:  # the image `full` is told so which of its programs to run
        words = words[1:]
    if is_llama_server(words):
        words = words[1:]  # a path within the container
    server = server_of(
        name, yaml.where(*at, "command"), words, _environment(yaml, at, service.get("environment"))
    )
    map_paths(server, _volumes(yaml, at, service.get("volumes")))
    _publish(server, yaml, at, service.get("ports"))
    _take_rest(server, yaml, at, service)
    said = str([{**server.values, "api_key": ""}, server.environment])
    unknown = dict.fromkeys(re.findall(r"\$\{[^}]*\}|\$[A-Za-z_]\w*", said))
    server.remarks += [f"{text} is not known here. Write its value in its place." for text in unknown]
    server.remarks += [
        f"environment.{key} comes from the shell of Compose: write its value."
        for key, value in server.environment.items()
        if not value
    ]
    found.add(server)


def _words(yaml: Yaml, name: str, key: str, service: dict[str, Any]) -> list[str]:
    said = service.get(key) or []
    where = yaml.where("services", name, key)
    if isinstance(said, str):
        return split(where, _filled_in(said))
    if not isinstance(said, list) or not all(isinstance(word, str | int | float) for word in said):
        raise ImportMistakeError(f"{where}: it must be text or a list of text.")
    return [_filled_in(_text(word)) for word in said]


def _filled_in(text: str) -> str:
    """Replace variables by their defaults; what has none stays as it is."""
    filled = _VARIABLE.sub(lambda match: match[0] if match[2] is None else match[2], text)
    return filled.replace("$$", "$")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _environment(yaml: Yaml, at: tuple[str, ...], said: Any) -> dict[str, str]:
    if isinstance(said, list):
        said = {name: value for name, _, value in (_text(entry).partition("=") for entry in said)}
    if not isinstance(said, dict | None):
        raise ImportMistakeError(f"{yaml.where(*at, 'environment')}: it must be a list or a mapping.")
    values = {str(name): "" if value is None else value for name, value in (said or {}).items()}
    return {name: _filled_in(_text(value)) for name, value in values.items()}


def _volumes(yaml: Yaml, at: tuple[str, ...], said: Any) -> list[Volume]:
    if not isinstance(said, list | None):
        raise ImportMistakeError(f"{yaml.where(*at, 'volumes')}: it must be a list.")
    found = []
    for entry in said or []:
        if isinstance(entry, dict):
            found.append(volume_of(f"{entry.get('source', '')}:{entry.get('target', '')}"))
        else:
            found.append(volume_of(_filled_in(str(entry))))
    return found


def _publish(server: Server, yaml: Yaml, at: tuple[str, ...], said: Any) -> None:
    """Listen where the container's port was published; inside it listened for all."""
    if not isinstance(said, list | None):
        raise ImportMistakeError(f"{yaml.where(*at, 'ports')}: it must be a list.")
    inside = server.values.pop("port", PORT)
    server.values.pop("host", None)
    for entry in said or []:
        if isinstance(entry, dict):
            host, ours, theirs = entry.get("host_ip"), entry.get("published"), entry.get("target")
        elif match := PUBLISHED.fullmatch(_filled_in(str(entry))):
            host, ours, theirs = match["host"], match["ours"], match["theirs"]
        else:
            server.remarks.append(remark(yaml.line(*at, "ports"), "ports", entry, "write port."))
            continue
        if str(theirs) == str(inside) and str(ours).isdecimal():
            server.values["port"] = int(str(ours))
            server.values["host"] = str(host).strip("[]") if host else EVERYWHERE


def _take_rest(server: Server, yaml: Yaml, at: tuple[str, ...], service: dict[str, Any]) -> None:
    restart = str(service.get("restart", "")).partition(":")
    if service.get("restart") is False or restart[0] == "no":
        server.values["max_retries"] = 0
    elif restart[2].isdecimal():
        server.values["max_retries"] = int(restart[2])
    if "stop_grace_period" in service:
        span = _SPAN.fullmatch(str(service["stop_grace_period"]))
        if not span or not span[0]:
            raise ImportMistakeError(f"{yaml.where(*at, 'stop_grace_period')}: write it as 30s or 1m30s.")
        hours, minutes, seconds, rest = (int(part or 0) for part in span.groups())
        server.values["stop_grace_ms"] = 1000 * (3600 * hours + 60 * minutes + seconds) + rest
    deploy = yaml.mapping(*at, "deploy")
    _take_devices(server, deploy)
    limits = yaml.mapping(*at, "deploy", "resources").get("limits")
    if limits:
        line = yaml.line(*at, "deploy", "resources", "limits")
        server.remarks.append(remark(line, "deploy.resources.limits", limits, ADVICE["mem_limit"]))
    for key, value in service.items():
        if key not in (*_TAKEN, *_SILENT):
            server.remarks.append(remark(yaml.line(*at, key), key, value, ADVICE.get(key, _NONE)))


def _take_devices(server: Server, deploy: dict[str, Any]) -> None:
    """Show a server the GPUs alone that its container had."""
    devices: Any = deploy
    for key in ("resources", "reservations", "devices"):
        devices = devices.get(key) if isinstance(devices, dict) else None
    for device in devices if isinstance(devices, list) else []:
        ids = device.get("device_ids") if isinstance(device, dict) else None
        if isinstance(ids, list) and device.get("driver") == "nvidia":
            server.environment.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, ids)))
