"""A pasted command line, or a script of one. Pure."""

from __future__ import annotations

import re
import shlex

from supervisor_app.importing.containers import image_at, server_of_run
from supervisor_app.importing.flags import server_of
from supervisor_app.importing.found import Found, ImportMistakeError

_WHERE = "The command line"
_PROMPT = re.compile(r"^\s*[$#%>] (?=\S)")
_COMMENT = re.compile(r"\s*#")
_BEGINS = re.compile(r"\s*(?:[$%>] )?(?:(?:env|exec|nohup|[A-Za-z_]\w*=\S*)\s+)*\S*llama-server\S*(?:\s|$)")


def is_command(text: str) -> bool:
    """Tell whether it begins as a command line of llama-server, or runs llama.cpp's image."""
    command = _without_comments(text)
    return bool(_BEGINS.match(command)) or image_at(_PROMPT.sub("", command).split()) is not None


def read_command(text: str) -> Found:
    """Raises ImportMistakeError."""
    found = Found(kind="a command line")
    command = _PROMPT.sub("", _without_comments(text).strip())
    words = split(_WHERE, command)
    image = image_at(words)
    if image is None:
        found.add(server_of("default", _WHERE, words, {}))
    else:
        found.add(server_of_run("default", _WHERE, words, image))
    return found


def split(where: str, command: str) -> list[str]:
    """Split as a shell would, also over several lines. Raises ImportMistakeError."""
    try:
        return shlex.split(command.replace("\\\n", " "))
    except ValueError as error:
        raise ImportMistakeError(f"{where}: it cannot be read: {error}. Close every quote.") from error


def _without_comments(text: str) -> str:
    lines = (line for line in text.splitlines() if not _COMMENT.match(line))
    return "\n".join(lines).replace("\\\n", " ")
