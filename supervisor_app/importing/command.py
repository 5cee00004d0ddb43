"""A pasted command line, or a script of one. Pure."""

from __future__ import annotations

import re
import shlex

from supervisor_app.core.command_line.shell import CONTINUED, CommandLineError, in_one_line, words_of
from supervisor_app.importing.containers import image_at, server_of_run
from supervisor_app.importing.flags import server_of
from supervisor_app.importing.found import Found, ImportMistakeError

_WHERE = "The command line"
_PROMPT = re.compile(r"^\s*[$#%>] (?=\S)")
_EXPANDED = re.compile(r"\$\{[^}]*\}|\$\([^)]*\)|\$[A-Za-z_]\w*|`[^`]*`")
_BEGINS = re.compile(
    r"\s*(?:[$%>] )?(?:(?:(?:\S*/)?env|exec|nohup|[A-Za-z_]\w*=\S*)\s+)*\S*llama-server\S*(?:\s|$)"
)


def is_command(text: str) -> bool:
    """Tell whether it begins as a command line of llama-server, or runs llama.cpp's image."""
    command = in_one_line(text)
    return bool(_BEGINS.match(command)) or image_at(_PROMPT.sub("", command).split()) is not None


def read_command(text: str) -> Found:
    """Raises ImportMistakeError."""
    found = Found(kind="a command line")
    command = _PROMPT.sub("", in_one_line(text).strip())
    words = _words(command)
    image = image_at(words)
    if image is None:
        server = server_of("default", _WHERE, words, {})
    else:
        server = server_of_run("default", _WHERE, words, image)
    said = str([{**server.values, "api_key": ""}, server.environment])
    server.remarks += [
        f"{text} is for a shell, and none runs this. Write its value in its place."
        for text in dict.fromkeys(_EXPANDED.findall(said))
    ]
    found.add(server)
    return found


def _words(command: str) -> list[str]:
    try:
        return words_of(command)
    except CommandLineError as error:
        raise ImportMistakeError(f"{_WHERE}: {error}.") from error


def split(where: str, command: str) -> list[str]:
    """Split as a shell would, also over several lines. Raises ImportMistakeError."""
    try:
        return shlex.split(CONTINUED.sub(" ", command))
    except ValueError as error:
        raise ImportMistakeError(f"{where}: it cannot be read: {error}. Close every quote.") from error
