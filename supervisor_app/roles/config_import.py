"""`manage.py llama import`: a file or a command line in, the text of `llamaproxy.toml` out."""

from __future__ import annotations

import sys
from pathlib import Path

from django.core.management.base import CommandError

from supervisor_app.common.redact import harmless, redact
from supervisor_app.fleet.conf import ConfigError
from supervisor_app.fleet.config_file import TOML_NAME
from supervisor_app.fleet.fleet_file import parse_fleet_file
from supervisor_app.importing.command import is_command
from supervisor_app.importing.found import ImportMistakeError
from supervisor_app.importing.kinds import KINDS, import_text
from supervisor_app.importing.written import write_toml

BAD_SOURCE = 2
LARGEST = 1024 * 1024
"""Bytes. Files of a hundred models have 50 000."""


def import_config(source: str) -> str:
    """Return a `llamaproxy.toml` that has no mistake. Raises CommandError.

    `source`: a command line, the path of a file, or `-` for the standard input.
    """
    name, text = _read(source)
    try:
        made = write_toml(import_text(text))
        parse_fleet_file(Path(TOML_NAME), made)
    except ImportMistakeError as error:
        raise _mistake(f"{name}: {error}" if name else str(error)) from error
    except ConfigError as error:
        lines = "\n".join(error.mistakes)
        raise _mistake(f"{name or 'It'} cannot be imported. Of it would come:\n{lines}") from error
    return made


def _read(source: str) -> tuple[str, str]:
    """Return the name of the source, which a command line has not, and its text."""
    if is_command(source):
        return "", source
    if not source.strip():
        raise _mistake(f"It is empty. Write {KINDS}, or name a file of one.")
    try:
        data = sys.stdin.buffer.read(LARGEST + 1) if source == "-" else _start_of(Path(source))
        text = data.decode()
    except FileNotFoundError as error:
        raise _mistake(_no_such(source)) from error
    except UnicodeDecodeError as error:
        raise _mistake(f"{source} cannot be read: it is no text in UTF-8.") from error
    except OSError as error:
        raise _mistake(f"{source} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise _mistake(f"{source} cannot be read: {error}.") from error
    if len(data) > LARGEST:
        raise _mistake(f"{source} is longer than {LARGEST} bytes: it is no configuration.")
    return "The standard input" if source == "-" else source, text


def _no_such(source: str) -> str:
    words = source.split()
    if len(words) > 1 and any("llama-server" in word for word in words):
        return f"It begins with {words[0]!r}. Begin with llama-server, its path, NAME=value or docker run."
    return f"There is no file {source}. Name one, or write {KINDS}, in quotes."


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST + 1)


def _mistake(text: str) -> CommandError:
    return CommandError(harmless(redact(text)), returncode=BAD_SOURCE)
