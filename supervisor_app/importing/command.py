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
_COMMENT_BEHIND = re.compile(r"""(?P<quoted>"(?:\\.|[^"\\])*"|'[^']*'|\\.)|(?<!\S)#.*""")
"""A comment behind a command, or what is quoted, in which `#` begins none."""
_CONTINUED = re.compile(r"\\[ \t]*\n")
"""The end of a line that goes on. A space behind the backslash is a slip: no flag is a space."""
_EXPANDED = re.compile(r"\$\{[^}]*\}|\$\([^)]*\)|\$[A-Za-z_]\w*|`[^`]*`")
_BEGINS = re.compile(
    r"\s*(?:[$%>] )?(?:(?:(?:\S*/)?env|exec|nohup|[A-Za-z_]\w*=\S*)\s+)*\S*llama-server\S*(?:\s|$)"
)


def is_command(text: str) -> bool:
    """Tell whether it begins as a command line of llama-server, or runs llama.cpp's image."""
    command = _without_comments(text)
    return bool(_BEGINS.match(command)) or image_at(_PROMPT.sub("", command).split()) is not None


def read_command(text: str) -> Found:
    """Raises ImportMistakeError."""
    found = Found(kind="a command line")
    command = _PROMPT.sub("", _without_comments(text).strip())
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
    """Split a line as a shell does: without comments, and with its signs as words of their own."""
    lexer = shlex.shlex(_COMMENT_BEHIND.sub(_quoted, command), posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)
    except ValueError as error:
        raise ImportMistakeError(f"{_WHERE}: it cannot be read: {error}. Close every quote.") from error


def _quoted(match: re.Match[str]) -> str:
    return match["quoted"] or ""


def split(where: str, command: str) -> list[str]:
    """Split as a shell would, also over several lines. Raises ImportMistakeError."""
    try:
        return shlex.split(_CONTINUED.sub(" ", command))
    except ValueError as error:
        raise ImportMistakeError(f"{where}: it cannot be read: {error}. Close every quote.") from error


def _without_comments(text: str) -> str:
    lines = (line for line in text.splitlines() if not _COMMENT.match(line))
    return _CONTINUED.sub(" ", "\n".join(lines))
