"""The kinds of configurations that can be imported, each recognised by its content. Pure."""

from __future__ import annotations

import re

from supervisor_app.importing.command import is_command, read_command
from supervisor_app.importing.compose import read_compose
from supervisor_app.importing.found import Found, ImportMistakeError, mistakes_of
from supervisor_app.importing.llama_swap import read_llama_swap
from supervisor_app.importing.presets import read_presets
from supervisor_app.importing.systemd import read_systemd
from supervisor_app.importing.yaml_text import Yaml

KINDS = (
    "llama-swap's YAML, llama.cpp's presets (INI), a Docker Compose file, a systemd unit, or a command line "
    "that begins with llama-server (or is docker run of llama.cpp)"
)
_OURS = re.compile(r"(?m)^\s*\[(?:defaults|(?:servers|engines)\..+)\]\s*$")
_UNIT = re.compile(r"(?m)^\s*\[Service\]\s*$")
_INI = re.compile(r"(?:\[[^\]\n]+\]|[\w.-]+\s*=.*)")


def import_text(text: str) -> Found:
    """Read a configuration of whichever kind. Raises ImportMistakeError."""
    found = _read(text)
    for mistake in mistakes_of(found):
        raise ImportMistakeError(mistake)
    return found


def _read(text: str) -> Found:
    text = text.removeprefix("\ufeff")
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and line[0] not in "#;"), "")
    if not first:
        raise ImportMistakeError(f"It is empty. Known are {KINDS}.")
    if is_command(text):
        return read_command(text)
    if _UNIT.search(text):
        return read_systemd(text)
    if _OURS.search(text):
        raise ImportMistakeError("It looks like a llamaproxy.toml already: llama config check.")
    if _INI.fullmatch(first):
        return read_presets(text)
    yaml = Yaml(text)
    if "services" in yaml.data:
        return read_compose(yaml)
    if "models" in yaml.data:
        return read_llama_swap(yaml)
    raise ImportMistakeError(f"Its keys are those of no known kind. Known are {KINDS}.")
