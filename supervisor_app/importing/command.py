"""A pasted command line, or a script of one. Pure."""

from __future__ import annotations

import re
import shlex

from supervisor_app.importing.flags import server_of
from supervisor_app.importing.found import Found, ImportMistakeError

_PROMPT = re.compile(r"^\s*[$#%>] (?=\S)")
_COMMENT = re.compile(r"\s*#")
_BEGINS = re.compile(r"\s*(?:[$%>] )?(?:(?:env|exec|nohup|[A-Za-z_]\w*=\S*)\s+)*\S*llama-server\S*(?:\s|$)")


def is_command(text: str) -> bool:
    return bool(_BEGINS.match(_without_comments(text)))


def read_command(text: str) -> Found:
    """Raises ImportMistakeError."""
    found = Found(kind="a command line")
    command = _PROMPT.sub("", _without_comments(text).strip())
    found.add(server_of("default", "The command", split("The command", command), {}))
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
