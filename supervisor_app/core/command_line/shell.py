"""Command lines as a shell splits them, for programs that none runs. Pure."""

from __future__ import annotations

import re
import shlex

_COMMENT = re.compile(r"""(?P<quoted>"(?:\\.|[^"\\])*"|'[^']*'|\\.)|(?<!\S)#.*""")
"""A comment, or what is quoted, in which `#` begins none."""
CONTINUED = re.compile(r"\\[ \t]*\n")
"""The end of a line that goes on. A space behind the backslash is a slip: no flag is a space."""
_SIGN = re.compile(r"[|&;<>]+|\d?>.*")


class CommandLineError(ValueError):
    """A command line that cannot be taken apart. The message says why, and what would do."""


def in_one_line(text: str) -> str:
    """Return a command line without comments, and with lines that go on joined."""
    said = _COMMENT.sub(lambda found: found["quoted"] or "", text.replace("\r\n", "\n"))
    return CONTINUED.sub(" ", said)


def words_of(command: str) -> list[str]:
    """Split a command line. Raises CommandLineError, also for signs with which a shell would do something."""
    line = in_one_line(command)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words, with_signs = shlex.split(line), list(lexer)
    except ValueError as error:
        raise CommandLineError(f"it cannot be read: {error}. Close every quote") from error
    for word in (*words, *with_signs):
        if _SIGN.fullmatch(word):
            raise CommandLineError(f"{word!r} is for a shell, and none runs this. Leave it out")
    return words
