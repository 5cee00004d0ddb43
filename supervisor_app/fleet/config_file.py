"""The config file in either form: JSON for the server `default`, TOML for all servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.fleet.conf import ConfigError, Overlay, parse_json, without_file
from supervisor_app.fleet.fleet_file import parse_fleet_file

if TYPE_CHECKING:
    from pathlib import Path

JSON_NAME = ".llama-proxy-config.json"
TOML_NAME = "llamaproxy.toml"


def read_overlay(path: Path) -> Overlay:
    """Read the config file; without a file nothing is overridden. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except FileNotFoundError:
        return without_file()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: it is no text in UTF-8.") from error
    return parse_overlay(path, text)


def parse_overlay(path: Path, text: str) -> Overlay:
    """Parse the text of a config file; `path` is for messages. Raises ConfigError."""
    return parse_fleet_file(path, text) if path.suffix == ".toml" else parse_json(path, text)


def check_one_file(path: Path, *, named: bool) -> None:
    """Refuse to choose where both files lie in the directory and none was `named`. Raises ConfigError."""
    other = path.with_name(JSON_NAME)
    if not named and path.name == TOML_NAME and path.exists() and other.exists():
        raise ConfigError(
            f"There are {path} and {other}. Keep one of them: what the JSON file says of the server default "
            f"belongs into [servers.default] of {TOML_NAME}. Or name the one to use in LLAMAPROXY_CONFIG."
        )
