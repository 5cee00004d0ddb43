"""The command line of `runsupervisor`, as one value.

Some settings depend on it: the name of the node, the host of the pages, the address of the gateway. Django's
settings do not change once they are read, so that part of the line is read before, and assigned by nobody.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NoReturn, Self

from supervisor_app.common.addresses import WILDCARDS, address, url_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class Site:
    """The part on which settings depend: which node this is and where it serves."""

    node: str
    bind: tuple[str, int] = ("127.0.0.1", 8000)
    gateway: tuple[str, int] = ("127.0.0.1", 8001)
    no_gateway: bool = False
    no_web: bool = False

    @classmethod
    def of(cls, parsed: Mapping[str, Any]) -> Self:
        """Return what parsed arguments say, among which Django has some of its own."""
        names = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in parsed.items() if name in names})

    @property
    def serves_gateway(self) -> bool:
        return not (self.no_web or self.no_gateway)

    @property
    def gateway_url(self) -> str:
        """URL of the gateway of this process; empty without one."""
        return url_of(*self.gateway) if self.serves_gateway else ""

    @property
    def hosts(self) -> list[str]:
        """Hosts by which people reach the pages of this process, as ALLOWED_HOSTS spells them."""
        host, _ = self.bind
        if self.no_web or host in WILDCARDS:
            return []
        return [f"[{host}]" if ":" in host else host]


@dataclass(frozen=True, kw_only=True)
class Options(Site):
    """Everything that the line says."""

    insecure_open: bool
    grace: float
    """Seconds that requests in flight may take at the end."""
    keep_servers: bool
    demo: bool


def node_name(text: str) -> str:
    """Parse the name of a node, which becomes part of a channel's name: that has rules and a length."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a node name. Use up to 63 letters, digits, - _ and ."
        )
    return text


def add_place_options(parser: argparse.ArgumentParser, node: str) -> None:
    """Add the options on which settings depend. `node`: the name without `--node`."""
    parser.add_argument(
        "--bind",
        type=address,
        default=Site.bind,
        metavar="HOST:PORT",
        help="where the pages are served (default: 127.0.0.1:8000)",
    )
    parser.add_argument(
        "--gateway",
        type=address,
        default=Site.gateway,
        metavar="HOST:PORT",
        help="where programs find all servers (default: 127.0.0.1:8001)",
    )
    parser.add_argument("--no-gateway", action="store_true", help="no gateway in this process")
    parser.add_argument(
        "--no-web",
        action="store_true",
        help="supervise only; other processes serve pages and gateway",
    )
    parser.add_argument(
        "--node",
        type=node_name,
        default=node,
        metavar="NAME",
        help="which servers are this host's (default: %(default)s)",
    )


class _QuietParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def read_ahead(argv: Sequence[str], node: str) -> Site:
    """Return the site that the command line of this process says, before the command itself reads it.

    `argv` is without the program, `node` the name unless the line says another. A process that is no
    supervisor serves at no place. A mistake is left to the command, which refuses the line.
    """
    parser = _QuietParser(add_help=False)
    add_place_options(parser, node)
    if argv[:1] == ["runsupervisor"]:
        try:
            return Site.of(vars(parser.parse_known_args(argv[1:])[0]))
        except ValueError:
            pass
    return Site(node=node, no_web=True)
