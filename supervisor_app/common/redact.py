"""Text that people will see, without secrets and without what a terminal would obey.

Secrets are found by shape, by the name of their flag, and by value where the value is known.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HIDDEN = "[redacted]"
_NAME = r"(?:api[-_]?key|access[-_]?key|token|secret|passw(?:or)?d|passphrase|credentials?|authorization)"
_VALUE = r"""(?:"[^"]*"|'[^']*'|[^\s"',;}&]+)"""
SHAPES = re.compile(
    rf"""
    # user:password@ in a URL, HTTP headers, the value of a flag
    (?P<scheme> \b [a-z][a-z0-9+.-]{{0,20}}:// ) [^\s/@"']+ (?= @ )
    | (?P<keep> \b (?: bearer | authorization:\s*\w+ ) \s+ ) [^\s"',]+
    | (?P<flag> (?<![\w-]) (?: --?[\w-]*{_NAME} | -hft ) (?: \s+ | = ) ) (?! -) {_VALUE}
    | (?P<name> {_NAME} ["']? \s* [=:] \s* ["']? ) [^\s"',;}}&]+
    | (?P<query> [?&] [\w.-]* (?: key | sig | signature | auth ) = ) [^\s"'&]+
    # Keys by prefix: OpenAI and Anthropic, ours, Hugging Face, GitHub, GitLab, Slack, Groq, NVIDIA, xAI
    | \b (?: sk | lp | hf | gh[opsur] | github_pat | glpat | xox[abeprs] | xapp | gsk | nvapi | xai )
      [-_] [A-Za-z0-9_-]{{8,}}
    # Amazon, Google, JSON web tokens
    | \b (?: AKIA | ASIA ) [A-Z0-9]{{16}} \b
    | \b AIza [A-Za-z0-9_-]{{30,}}
    | \b eyJ [A-Za-z0-9_-]{{8,}} \. [A-Za-z0-9_-]{{4,}} \. [A-Za-z0-9_-]*
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""All but tab and newline: escape sequences could rewrite what a terminal shows, or its clipboard."""
SHORTEST = 4
"""Characters: a shorter secret would hide ordinary words."""
NUMBERS = re.compile(r"[\d.,%/-]+")

_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
_PLAIN_VARIABLES = re.compile(
    r"(?:CUDA|GGML|GPU_DEVICE|HIP|HSA|LLAMA_ARG|LLAMA_LOG|NCCL|OMP|ROCR|VK|ZE)_|LD_LIBRARY_PATH$"
)
"""Variables that say how to compute; the values of all others stay with the server."""
_SLASH = re.compile(r"[/\\]")
_PATH = re.compile(r"(?:~|[A-Za-z]:)?[/\\][^/\\]*[/\\]")
_FOLDERS = re.compile(
    r"""
    (?P<quote> ['"] ) (?: ~ | [A-Za-z]: )? [/\\] [^'"]* [/\\] (?P<quoted> [^'"/\\]* ) (?P=quote)
    | (?<! [\w:/\\.~-] ) (?! /v1/ ) (?: ~ | [A-Za-z]: )?
      (?: [/\\] [^\s/\\'":,;()\[\]=]+ )+ [/\\] (?P<name> [^\s/\\'":,;()\[\]=]* )
    """,
    re.VERBOSE,
)

_SECRET_FLAG = re.compile(rf"-hft|--?[\w-]*{_NAME}|--mcp-servers-json", re.IGNORECASE)
"""Flags whose value is secret. MCP servers are described with their environment, and tokens in that."""


def redact(line: str, secrets: Sequence[str] = ()) -> str:
    """Return the line without secrets: `token = 5` is a count, `token = abc` is not."""
    for secret in secrets:
        if len(secret) >= SHORTEST:
            line = line.replace(secret, HIDDEN)
    return SHAPES.sub(_hide, line)


def harmless(text: str) -> str:
    r"""Return the text with each control character spelled out (`\x1b`), so that no terminal obeys it."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def redact_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command line with each secret in it hidden, word by word."""
    hidden = {at for at, _ in _secrets(argv)}
    return tuple(_hidden_word(word) if at in hidden else redact(word) for at, word in enumerate(argv))


def redact_environment(variables: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return variables by name, with the values of those alone that say how to compute."""
    return {
        name: redact(value) if _PLAIN_VARIABLES.match(name) and not _SECRET_NAME.search(name) else HIDDEN
        for name, value in variables
    }


def without_folders(text: str) -> str:
    """Return the text with the names of files alone: folders tell of users and customers."""
    return _FOLDERS.sub(_file_name, text)


def word_without_folders(word: str) -> str:
    """Return a word of a command line likewise: a path that is one word may have spaces."""
    return f"…/{re.split(_SLASH, word)[-1]}" if _PATH.match(word) else without_folders(word)


def secrets_of(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the values of the command line's secret flags, to be hidden wherever they turn up again."""
    return tuple(secret for _, secret in _secrets(argv))


def _secrets(argv: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the place of each word that holds a secret flag's value, and that value."""
    after_flag = False
    for at, word in enumerate(argv):
        flag, equals, _ = word.replace("_", "-").partition("=")
        if after_flag:
            yield at, word
            after_flag = False
        elif _SECRET_FLAG.fullmatch(flag):
            if equals:
                yield at, word[len(flag) + 1 :]
            after_flag = not equals


def _file_name(match: re.Match[str]) -> str:
    quote = match["quote"] or ""
    return f"{quote}…/{match['quoted'] if quote else match['name']}{quote}"


def _hidden_word(word: str) -> str:
    flag, equals, _ = word.partition("=")
    return f"{flag}={HIDDEN}" if equals and flag.startswith("-") else HIDDEN


def _hide(match: re.Match[str]) -> str:
    if (name := match["name"]) is not None:
        value = match[0][len(name) :]
        return match[0] if NUMBERS.fullmatch(value) else name + HIDDEN
    kept = next((part for part in match.group("scheme", "keep", "flag", "query") if part is not None), "")
    return kept + HIDDEN
