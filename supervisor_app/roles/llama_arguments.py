"""The command line of `manage.py llama`."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import CommandParser

from supervisor_app.core.server_config import Wish
from supervisor_app.gateway.llama.operations import Family

OTHERS = (
    "status",
    "logs",
    "rollback",
    "maintenance",
    "key",
    "config",
    "import",
    "devices",
    "footprint",
    "models",
    "pull",
    "report",
)
"""Commands beside those that are a wish."""


class AnyOrderParser(CommandParser):
    """Parser that takes options before, between and behind the names: `llama logs -f chat`."""

    def parse_args(self, *args: Any, **named: Any) -> Any:
        return self.parse_intermixed_args(*args, **named)


def add_arguments(parser: CommandParser) -> None:
    """Declare command, names and options, in the order in which `--help` lists them."""
    _add_names(parser)
    _add_options_of_keys_and_maintenance(parser)
    _add_options_of_servers(parser)


def _add_names(parser: CommandParser) -> None:
    parser.add_argument("command", choices=[*(wish.value for wish in Wish), *OTHERS])
    parser.add_argument(
        "name",
        nargs="?",
        help="a server (default: all); of key: add, list, rotate or revoke; of config: check, diff or "
        "show; of import: a file, - or a command line; of footprint: also a GGUF file; of pull: "
        "OWNER/REPOSITORY[:QUANTIZATION]",
    )
    parser.add_argument(
        "key_name",
        nargs="?",
        metavar="which",
        help="of key add, rotate and revoke: a key; of maintenance: on or off; "
        "of config show: a server; of config diff: a file; "
        "of report: a run (default: the newest that died)",
    )


def _add_options_of_keys_and_maintenance(parser: CommandParser) -> None:
    parser.add_argument("--endpoints", help=f"of key add: only these, of {','.join(Family)}")
    parser.add_argument("--may-read", action="store_true", help="of key add: also /slots, /props, /metrics")
    parser.add_argument(
        "--may-change",
        action="store_true",
        help="of key add: also /tools, /lora-adapters, /models/load, …",
    )
    parser.add_argument(
        "--until",
        help="of maintenance and of key rotate: its end, that of the old "
        "secret: now, 2h, 7d, 14:00, a date (default: until off; 1d)",
    )
    parser.add_argument("--note", default="", help="of maintenance: why")
    parser.add_argument("--all", action="store_true", dest="of_all", help="of maintenance: of all servers")


def _add_options_of_servers(parser: CommandParser) -> None:
    parser.add_argument(
        "--json",
        action="store_true",
        dest="as_json",
        help="the LlamaStatus of each, as the API has it",
    )
    parser.add_argument(
        "--seamless",
        action="store_true",
        help="of restart: a new process starts beside the old one and takes over once it is ready",
    )
    parser.add_argument(
        "--now",
        action="store_true",
        dest="at_once",
        help="of stop and restart: without waiting for requests in flight",
    )
    parser.add_argument(
        "--flags", default="", help="of footprint: more flags of llama-server: --flags='-c 8192 -ngl 20'"
    )
    parser.add_argument(
        "--mmproj", action="store_true", help="of pull: with the projector of pictures, if there is one"
    )
    parser.add_argument("-n", "--lines", type=_count, default=50, help="of logs (default: 50)")
    parser.add_argument("-f", "--follow", action="store_true", help="of logs: go on until Ctrl+C")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines. Write 0 or more.")
    return int(text)
