"""A systemd unit that runs llama-server. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from supervisor_app.importing.command import split
from supervisor_app.importing.flags import is_llama_server, server_of
from supervisor_app.importing.found import Found, ImportMistakeError, Server, remark, shown_command

_SECTION = re.compile(r"\[(\w+)\]")
_PREFIX = re.compile(r"[@:+!|-]+")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+)\b)")
_UNITS = {"": 1000, "ms": 1, "s": 1000, "sec": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*")
_OWN_UNIT = "it belongs into the unit of llamaproxy, which is one for all servers (deploy/)."
ADVICE = {
    "User": "servers run as the user of the supervisor.",
    "Group": "servers run as the user of the supervisor.",
    "EnvironmentFile": "write its variables into environment.",
    "MemoryMax": "max_memory_mb restarts a server with more memory of its own, once it is idle.",
    "ExecStartPre": "nothing is run before a server.",
    "ExecStartPost": "nothing is run after a start.",
    "ExecStop": "a server is stopped with SIGTERM, and with SIGKILL after stop_grace_ms.",
}
_SILENT = ("Type", "StandardOutput", "StandardError", "SyslogIdentifier", "KillSignal", "KillMode")
"""Ways in which systemd handles any program; llamaproxy has its own."""


class Assignment(NamedTuple):
    """An assignment of the section [Service]."""

    line: int
    key: str
    value: str


def read_systemd(text: str) -> Found:
    """Raises ImportMistakeError."""
    found = Found(kind="a systemd unit")
    entries = list(_service(text))
    starts = [entry for entry in entries if entry.key == "ExecStart"]
    if not starts:
        raise ImportMistakeError("line 1: the section [Service] has no ExecStart.")
    start = starts[-1]
    where = f"line {start.line}: ExecStart"
    environment = _environment(entries)
    words = [_expanded(word, environment) for word in _command(where, start.value)]
    if not is_llama_server(words):
        raise ImportMistakeError(f"{where}: it does not run llama-server: {shown_command(words)}")
    server = server_of("default", where, words, environment)
    unknown = {match for word in words for match in re.findall(r"\$\{?\w+\}?|%[a-zA-Z]", word)}
    server.remarks += [
        f"{where}: {name} is not known here. Write its value in its place." for name in sorted(unknown)
    ]
    for entry in entries:
        _take(server, entry)
    found.add(server)
    return found


def _command(where: str, value: str) -> list[str]:
    """Split what ExecStart says. A shell that only runs llama-server is left out."""
    prefix = _PREFIX.match(value)
    words = split(where, value[prefix.end() :] if prefix else value)
    if prefix and "@" in prefix[0]:
        del words[1:2]  # how the process calls itself
    if len(words) == 3 and words[0].rpartition("/")[2] in ("sh", "bash") and words[1] in ("-c", "-lc"):
        words = split(where, words[2])
    return words


def _service(text: str) -> list[Assignment]:
    """Return the assignments of [Service], lines that go on joined."""
    entries: list[Assignment] = []
    section, pending, began = "", "", 0
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        line = raw.strip()
        if line[:1] in ("#", ";") or not (line or pending):
            continue
        began = began if pending else number
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        whole, pending = pending, ""
        if heading := _SECTION.fullmatch(whole):
            section = heading[1]
            continue
        key, equals, value = whole.partition("=")
        if not equals:
            raise ImportMistakeError(f"line {began}: {whole[:40]!r} is no assignment. Write Key=value.")
        if section == "Service":
            entries.append(Assignment(began, key.strip(), value.strip()))
    return entries


def _environment(entries: list[Assignment]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in entries:
        if entry.key == "Environment":
            where = f"line {entry.line}: Environment"
            words = split(where, entry.value)
            if not words:
                found.clear()
            for word in words:
                name, equals, value = word.partition("=")
                if not equals:
                    raise ImportMistakeError(f"{where}: {word!r} is no NAME=value. Quote values with spaces.")
                found[name] = value.replace("%%", "%")
    return found


def _expanded(word: str, environment: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        return environment.get(match[1] or match[2], match[0])

    return _VARIABLE.sub(value, word).replace("%%", "%")


def _take(server: Server, entry: Assignment) -> None:
    """Take what has a counterpart; remark on the rest."""
    values = server.values
    match entry.key, entry.value:
        case "ExecStart" | "Environment", _:
            pass
        case "Restart", "no":
            values["max_retries"] = 0
        case "Restart", _:
            pass
        case "RestartSec", _:
            values["retry_backoff_ms"] = max(1, _milliseconds(entry))
            values["max_backoff_ms"] = max(30_000, values["retry_backoff_ms"])
        case "TimeoutStopSec", "infinity":
            server.remarks.append(remark(entry.line, "TimeoutStopSec", "infinity", ADVICE["ExecStop"]))
        case "TimeoutStopSec", _:
            values["stop_grace_ms"] = _milliseconds(entry)
        case "WorkingDirectory", folder if folder.startswith("/"):
            for key in ("model_path", "models_dir"):
                if key in values and values[key][:1] not in ("/", "~"):
                    values[key] = f"{folder.rstrip('/')}/{values[key].removeprefix('./')}"
        case key, value if key not in _SILENT:
            server.remarks.append(remark(entry.line, key, value, ADVICE.get(key, _OWN_UNIT)))


def _milliseconds(entry: Assignment) -> int:
    parts = _SPAN.findall(entry.value)
    if not parts or _SPAN.sub("", entry.value) or any(unit not in _UNITS for _, unit in parts):
        raise ImportMistakeError(
            f"line {entry.line}: {entry.key}: {entry.value!r} is no time. Write it as 5, 500ms or 1min 30s."
        )
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))
