"""llama-swap's YAML: models, aliases, macros, env, ttl. Pure.

Its keys are those of `config.example.yaml` of llama-swap, version 250.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from supervisor_app.importing.command import split
from supervisor_app.importing.containers import image_at, server_of_run
from supervisor_app.importing.filters import KNOWN, read_filters
from supervisor_app.importing.flags import is_llama_server, server_of
from supervisor_app.importing.found import Found, ImportMistakeError, Server, remark, shown_command
from supervisor_app.importing.macros import expand

if TYPE_CHECKING:
    from supervisor_app.importing.yaml_text import Yaml

TOP = {
    "healthCheckTimeout": "max_load_seconds",
    "globalTTL": "idle_stop_seconds",
}
OF_A_MODEL = {
    "ttl": ("idle_stop_seconds", 1),
    "unloadTimeout": ("stop_grace_ms", 1000),
    "concurrencyLimit": ("max_concurrent", 1),
}
"""Key -> ours, and by how much its number is multiplied."""
_TAKEN = ("cmd", "proxy", "env", "aliases", "macros", "checkEndpoint", "filters", *OF_A_MODEL)
_TAKEN_TOP = ("models", "macros", "startPort", "groups", *TOP)
_PORTS = 1000
"""Number of ports from `startPort` on."""

_ROOM = "servers make room for each other by [memory], and by group, pinned and priority of each."
_LOG = "logs are files in the data directory, and llama logs NAME shows them."
ADVICE_TOP = {
    "apiKeys": "the gateway's keys are made with llama key add NAME, and only their hashes are kept.",
    "matrix": _ROOM,
    "routing": _ROOM,
    "hooks": "servers start with llamaproxy, without being asked for first.",
    "peers": "there are no remote servers in this file. Run llamaproxy there, with the same database.",
    "profiles": "a name leads to one server: write aliases.",
    "selectors": "servers with a common alias are alternatives: the gateway takes the best of them.",
    "logLevel": _LOG,
    "logTimeFormat": _LOG,
    "logToStdout": _LOG,
    "store": "requests are kept in llamaproxy's database.",
    "metricsMaxInMemory": "requests are kept in llamaproxy's database.",
    "captureBuffer": "bodies of requests are never kept.",
    "performance": "see /metrics.",
    "ui": "there is nothing to set.",
    "includeAliasesInList": "/v1/models lists aliases always.",
    "sendLoadingState": "clients wait without a text, as long as hold_seconds.",
    "unloadTimeout": "write stop_grace_ms in [defaults].",
    "upstream": "only requests to a model start a server.",
}
ADVICE = {
    "cmdStop": "a server is stopped with SIGTERM, and with SIGKILL after stop_grace_ms.",
    "name": "a server is listed under its name and its aliases.",
    "description": "there is no counterpart.",
    "unlisted": "all servers are listed.",
    "useModelName": "clients' name of the model is passed on as it is; llama-server does not look at it.",
    "metadata": "there is no counterpart.",
    "capabilities": "they are those that llama-server tells itself.",
    "timeouts": "hold_seconds and stall_seconds bound how long a request waits.",
    "sendLoadingState": "clients wait without a text, as long as hold_seconds.",
    "compat": "there is no counterpart.",
}
_UNKNOWN = "this key is not known here."
_PREFACE = (
    "llama-swap loads a model when it is asked for; here servers start with llamaproxy, as many as fit. The "
    "others make room when one is asked for, because there is a table [memory]."
)
_ENDS = re.compile(r"https?://(?:localhost|127\.0\.0\.1|\[::1\]):(\d+)/?")


def read_llama_swap(yaml: Yaml) -> Found:
    """Raises ImportMistakeError."""
    found = Found(kind="llama-swap's YAML", preface=_PREFACE, memory={})
    _read_top(found, yaml)
    for name in yaml.mapping("models"):
        _read_model(found, yaml, name)
    return found


def _join_groups(found: Found, server: Server, yaml: Yaml, model: str) -> None:
    """Let a server share a limit where its group swaps, and pin the server where the group persists."""
    for name in yaml.mapping("groups"):
        at = ("groups", name)
        group = yaml.mapping(*at)
        if model not in _texts(yaml, (*at, "members"), group.get("members")):
            continue
        if group.get("persistent"):
            server.values["pinned"] = True
        if group.get("swap", True) and found.memory is not None:
            server.values["group"] = name
            found.memory[name] = 1


def _read_top(found: Found, yaml: Yaml) -> None:
    for key, ours in TOP.items():
        if key in yaml.data:
            found.defaults[ours] = max(_number(yaml, (key,), yaml.data[key]), 0)
    if "startPort" in yaml.data:
        first = _number(yaml, ("startPort",), yaml.data["startPort"])
        if not 1 <= first <= 65535:
            raise ImportMistakeError(f"{yaml.where('startPort')}: {first} is no port. Write 1 to 65535.")
        found.defaults["ports"] = f"{first}-{min(first + _PORTS - 1, 65535)}"
    for key, value in yaml.data.items():
        if key not in _TAKEN_TOP:
            found.remarks.append(remark(yaml.line(str(key)), str(key), value, ADVICE_TOP.get(key, _UNKNOWN)))


def _read_model(found: Found, yaml: Yaml, name: str) -> None:
    at = ("models", name)
    model = yaml.mapping(*at)
    where = yaml.where(*at, "cmd")
    macros = {**yaml.mapping("macros"), **yaml.mapping(*at, "macros"), "MODEL_ID": name}
    if not isinstance(model.get("cmd"), str) or not model["cmd"].strip():
        raise ImportMistakeError(f"{where}: every model needs a command line as text.")
    command = "\n".join(line for line in model["cmd"].splitlines() if not line.lstrip().startswith("#"))
    words = _without_port(split(where, expand(where, command, macros)))
    image = image_at(words)
    if image is None and not is_llama_server(words):
        found.remarks.append(
            f"line {yaml.line(*at)}: {name}: left out, because it is not llama-server that it runs: "
            f"{shown_command(words)}"
        )
        return
    if image is None:
        server = server_of(name, where, words, _environment(yaml, at, model.get("env")))
    else:
        server = server_of_run(name, where, words, image)
    said = " ".join(words).replace("${PORT}:", "")  # a published port, which is chosen here
    server.remarks += [
        f"{where}: {unknown} is not known here. Write its value in its place."
        for unknown in dict.fromkeys(re.findall(r"\$\{[^}]*\}", said))
    ]
    if aliases := _aliases(yaml, (*at, "aliases"), model.get("aliases")):
        server.values["aliases"] = aliases
    for key, (ours, factor) in OF_A_MODEL.items():
        if key in model:
            _take_number(server, ours, factor * _number(yaml, (*at, key), model[key]))
    _read_proxy(server, yaml, at, expand(where, str(model.get("proxy") or ""), macros))
    _remark_on(server, yaml, at, model)
    _join_groups(found, server, yaml, name)
    read_filters(server, yaml, at, macros)
    found.add(server)


def _take_number(server: Server, ours: str, number: int) -> None:
    """Take a number; below 0 it is the default, and so is a limit of 0."""
    if number > 0 or (number == 0 and ours == "idle_stop_seconds"):
        server.values[ours] = number


def _without_port(words: list[str]) -> list[str]:
    """Leave out `--port ${PORT}`: a port is chosen here, too."""
    kept: list[str] = []
    for word in words:
        if word == "${PORT}" and kept and kept[-1] == "--port":
            kept.pop()
        elif word != "--port=${PORT}":
            kept.append(word)
    return kept


def _read_proxy(server: Server, yaml: Yaml, at: tuple[str, ...], proxy: str) -> None:
    if not proxy or "${PORT}" in proxy:
        return
    ends = _ENDS.fullmatch(proxy)
    if ends is None:
        server.remarks.append(
            remark(yaml.line(*at, "proxy"), "proxy", proxy, "a server is asked at its host and port.")
        )
    else:
        server.values.setdefault("port", int(ends[1]))


def _remark_on(server: Server, yaml: Yaml, at: tuple[str, ...], model: dict[str, Any]) -> None:
    if model.get("checkEndpoint") not in (None, "/health"):
        server.remarks.append(
            remark(
                yaml.line(*at, "checkEndpoint"), "checkEndpoint", model["checkEndpoint"], "/health is asked."
            )
        )
    for key, value in yaml.mapping(*at, "filters").items():
        if key not in KNOWN:
            line = yaml.line(*at, "filters", key)
            server.remarks.append(remark(line, f"filters.{key}", value, _UNKNOWN))
    for key, value in model.items():
        if key not in _TAKEN:
            server.remarks.append(remark(yaml.line(*at, key), key, value, ADVICE.get(key, _UNKNOWN)))


def _aliases(yaml: Yaml, at: tuple[str, ...], said: Any) -> list[str]:
    """Return the names alone: an alias may be a mapping with an `id`."""
    if isinstance(said, list):
        said = [alias.get("id", "") if isinstance(alias, dict) else alias for alias in said]
    return _texts(yaml, at, said)


def _environment(yaml: Yaml, at: tuple[str, ...], said: Any) -> dict[str, str]:
    pairs = [text.partition("=") for text in _texts(yaml, (*at, "env"), said)]
    for name, equals, _ in pairs:
        if not equals:
            raise ImportMistakeError(f"{yaml.where(*at, 'env')}: {name!r} has no value. Write NAME=value.")
    return {name: value for name, _, value in pairs}


def _texts(yaml: Yaml, at: tuple[str, ...], said: Any) -> list[str]:
    said = [said] if isinstance(said, str) else said or []
    if not isinstance(said, list) or not all(isinstance(text, str | int) for text in said):
        raise ImportMistakeError(f"{yaml.where(*at)}: it must be a list of text.")
    return [str(text) for text in said]


def _number(yaml: Yaml, at: tuple[str, ...], said: Any) -> int:
    if isinstance(said, bool) or not isinstance(said, int):
        raise ImportMistakeError(f"{yaml.where(*at)}: it is {said!r}, and must be a whole number.")
    return max(said, -1)
