"""`llamaproxy.toml` as text: what was found elsewhere, written down. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from supervisor_app.common.redact import harmless, redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from supervisor_app.importing.found import Found, Server

FIRST = ("engine", "model_path", "models_dir", "args", "aliases", "host", "port")
"""Keys of a server, in the order in which people look for them."""
LONGEST_NAME = 50
LONGEST_REMARK = 300
"""Characters."""
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def write_toml(found: Found) -> str:
    """Return the text of the file."""
    names = _names(found.servers)
    engines = _engines(found.servers)
    _free_ports(found.servers)
    lines = [f"# Made by llama import from {found.kind}."]
    if any("api_key" in server.values for server in found.servers) or found.secrets:
        lines.append("# There are secrets in it: keep it from others (chmod 600).")
    lines += _remarks(filter(None, [found.preface, *found.remarks]), found.secrets)
    if found.defaults:
        lines += ["", "[defaults]", *_pairs(found.defaults)]
    if found.memory is not None:
        lines += ["", "[memory]"]
    if found.memory:
        lines += ["", "[memory.groups]", *_pairs(found.memory)]
    for binary, name in engines.items():
        lines += ["", f"[engines.{name}]", f"binary = {value_of(binary)}"]
    for server, name in zip(found.servers, names, strict=True):
        lines += ["", f"[servers.{name}]", *_remarks(server.remarks, found.secrets)]
        lines += _server(server, name, engines)
    return "\n".join(lines).encode("utf-8", "replace").decode() + "\n"


def value_of(value: Any) -> str:
    """Return a value in TOML: text, a number, a switch, a list or a table of them."""
    if isinstance(value, dict):
        return "{ " + ", ".join(_pair(str(key), inner) for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(value_of, value)) + "]"
    # A JSON string is a TOML string, but for the one control character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _server(server: Server, name: str, engines: Mapping[str, str]) -> Iterator[str]:
    values = dict(server.values)
    aliases = [server.name, *values.pop("aliases", [])] if server.name != name else values.pop("aliases", [])
    if server.binary:
        values["engine"] = engines[server.binary]
    if aliases:
        values["aliases"] = list(dict.fromkeys(aliases))
    if server.environment:
        values["environment"] = server.environment
    presets = values.pop("presets", {})
    yield from _pairs({key: values.pop(key) for key in FIRST if key in values} | values)
    for preset, said in presets.items():
        yield ""
        yield f"[servers.{name}.presets.{_key(preset)}]"
        yield from _pairs(said)


def _names(servers: Sequence[Server]) -> list[str]:
    """Return a name for each server that addresses can hold."""
    names: list[str] = []
    for server in servers:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", server.name)[:LONGEST_NAME].strip("-") or "server"
        name, number = plain, 2
        while name in names:
            name, number = f"{plain[: LONGEST_NAME - 4]}-{number}", number + 1
        names.append(name)
    return names


def _engines(servers: Sequence[Server]) -> dict[str, str]:
    """Return program -> name of its engine."""
    binaries = dict.fromkeys(server.binary for server in servers if server.binary)
    return {
        binary: f"imported-{number}" if number > 1 else "imported"
        for number, binary in enumerate(binaries, 1)
    }


def _free_ports(servers: Sequence[Server]) -> None:
    """Leave a port to the first server that names it: here all of them run at once."""
    taken: dict[int, str] = {}
    for server in servers:
        port = server.values.get("port")
        if port is not None and taken.setdefault(port, server.name) != server.name:
            del server.values["port"]
            server.remarks.append(f"port {port} is that of {taken[port]}, too: another one is chosen.")


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    return (_pair(key, value) for key, value in values.items())


def _pair(key: str, value: Any) -> str:
    return f"{_key(key)} = {value_of(value)}"


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else value_of(key)


def _remarks(remarks: Iterable[str], secrets: Sequence[str]) -> Iterator[str]:
    for remark in remarks:
        text = " ".join(harmless(redact(remark, secrets)).split())
        if len(text) > LONGEST_REMARK:
            text = text[: LONGEST_REMARK - 1] + "…"
        yield f"# {text}"
