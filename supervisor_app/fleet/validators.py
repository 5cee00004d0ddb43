"""Checks of configured values. Each message names the value and says what would do."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError

from supervisor_app.core.command_line.moved_door import INSTEAD, moved_door
from supervisor_app.engine.flags import not_for_forms
from supervisor_app.gateway.llama.preset_mistakes import mistakes_in

OWN_FLAGS = {
    "-m": "the model path",
    "--model": "the model path",
    "--host": "the host",
    "--port": "the port",
    "--models-dir": "the models directory",
    "--api-key": "the API key (every user of the machine can read a command line)",
}
TWO_WORDS = re.compile(r"--?[A-Za-z][A-Za-z0-9_-]*\s+\S")
"""A flag with its value in one string, as in ["-c 8192"]."""
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


def validate_host(value: str) -> None:
    """Accept a name or an address: llama-server says the same "couldn't bind" of every mistake."""
    if not HOST.fullmatch(value):
        raise ValidationError(
            f"{value!r} is not a host. Use a name or an address, such as localhost or 0.0.0.0."
        )


def validate_port(value: int) -> None:
    """Accept a port. llama-server itself takes 70000 and listens on 4464 (modulo 65536), without a word."""
    if not 1 <= value <= 65535:
        raise ValidationError(f"{value} is not a port. Use 1 to 65535.")


def validate_api_key(value: str) -> None:
    """Accept a key that fits into an HTTP header and into LLAMA_API_KEY, where commas separate several."""
    if not re.fullmatch(r"[!-+\--~]*", value):
        raise ValidationError(
            "An API key is made of ASCII letters, digits and signs, without spaces and commas."
        )


def validate_args(value: Any) -> None:
    """Accept a list of strings without the flags that have a field of their own."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValidationError(f'{value!r} is not a list of strings, such as ["-c", "8192"].')
    for item in value:
        if "\0" in item:
            raise ValidationError("A flag contains a NUL byte.")
        if TWO_WORDS.match(item):
            apart = ", ".join(f'"{word}"' for word in item.split(maxsplit=1))
            raise ValidationError(f"{item!r} is one word to llama-server. Write it as two: {apart}.")
        flag = item.partition("=")[0]
        if flag.startswith("--"):
            flag = flag.replace("_", "-")  # llama-server takes both
        if flag in OWN_FLAGS:
            raise ValidationError(f"{flag} does not belong here: set {OWN_FLAGS[flag]} instead.")
    if why := moved_door(value):
        raise ValidationError(f"{why}. {INSTEAD}")


def validate_args_of_form(args: list[str]) -> None:
    """Refuse flags with which a staff account could run programs, or read and write files, here."""
    refused = [] if settings.LLAMAPROXY_TRUST_ADMIN_FLAGS else not_for_forms(args)
    if refused:
        raise ValidationError(
            f"{', '.join(refused)}: not accepted from a form, because such flags can run programs, read and "
            "write files, or open the server to others. Set them in llama_server_args of the config file; or "
            "set LLAMAPROXY_TRUST_ADMIN_FLAGS=1 if whoever may log in as staff may run programs here."
        )


def validate_presets(value: Any) -> None:
    """Accept presets by name; all of their mistakes are told."""
    mistakes = [f"{'.'.join(path)}: {what}".removeprefix(": ") for path, what in mistakes_in(value)]
    if mistakes:
        raise ValidationError(mistakes)


def validate_names(value: Any) -> None:
    """Accept a list of names of models, as clients say them."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValidationError(f'{value!r} is not a list of strings, such as ["chat", "qwen3"].')
    for name in value:
        if not name.strip() or name != name.strip() or "\0" in name:
            raise ValidationError(f"{name!r} is not a name: it is empty, or begins or ends with a space.")
