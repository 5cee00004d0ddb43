"""Parts that the commands of a gateway share: its address, who may come in, and how that is said."""

from __future__ import annotations

import argparse
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError

from supervisor_app.common.addresses import url_of, who_listens
from supervisor_app.gateway.access.origins import BadOriginError, Origins
from supervisor_app.gateway.edge import api_keys
from supervisor_app.gateway.edge.service import Service, is_loopback, listening_socket
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.web.descriptors import Shares, connection_shares
from supervisor_app.web.limits import WebLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor_app.fleet.conf import Overlay

log = logging.getLogger("supervisor_app.gateway")

BAD_USAGE, FAILED = 2, 3
GRACE_SECONDS = 30.0
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def seconds(text: str) -> float:
    """Raises ArgumentTypeError."""
    with suppress(ValueError):
        if (number := float(text)) >= 0:  # which NaN is not
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no time. Use seconds, 0 or more.")


def add_gateway_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--insecure-open",
        action="store_true",
        help="let the gateway serve the network although there is no API key",
    )
    parser.add_argument(
        "--grace",
        type=seconds,
        default=GRACE_SECONDS,
        metavar="SECONDS",
        help="at the end, how long requests in flight may take (default: %(default)g)",
    )


def prepare(
    where: tuple[str, int],
    overlay: Callable[[], Overlay],
    *,
    insecure_open: bool,
    grace: float,
    option: str = "--bind",
    beside_web: bool = False,
    shared: bool = False,
    counts: Path | None = None,
) -> Service:
    """Bind the gateway to its address, which `option` names.

    Raises CommandError: the address is taken, or it would be open to the network.
    """
    host, port = where
    try:
        Origins(tuple(settings.LLAMAPROXY_ALLOWED_ORIGINS))
    except BadOriginError as error:
        raise CommandError(f"LLAMAPROXY_ALLOWED_ORIGINS: {error}", returncode=BAD_USAGE) from error
    try:
        has_keys = bool(api_keys.load())
    except DatabaseError as error:
        raise CommandError(f"The database cannot be used: {error}", returncode=FAILED) from error
    if not (has_keys or insecure_open or is_loopback(host)):
        raise CommandError(
            f"{host}:{port} can be reached from the network, and there is no API key yet: everybody could "
            "use your models. Make a key in the admin, listen on 127.0.0.1, or say --insecure-open.",
            returncode=BAD_USAGE,
        )
    try:
        bound = listening_socket(host, port, shared=shared)
    except OSError as error:
        raise CommandError(
            f"The gateway cannot listen on {host}:{port}: {error.strerror}{who_listens(port)}. "
            f"Use another {option}.",
            returncode=BAD_USAGE,
        ) from error
    wanted = Shares(web=WebLimits().connections if beside_web else 0, gateway=Limits().connections)
    return Service(
        bound,
        overlay=overlay,
        allowed_hosts=[*settings.LLAMAPROXY_HOSTS, *LOOPBACK],
        allowed_origins=settings.LLAMAPROXY_ALLOWED_ORIGINS,
        insecure_open=insecure_open,
        public_metrics=settings.LLAMAPROXY_PUBLIC_STATUS,
        default_server=settings.LLAMAPROXY_DEFAULT_SERVER,
        grace_seconds=grace,
        on_listening=partial(say_where, where),
        limits=Limits(connections=connection_shares(wanted).gateway),
        counts=counts,
    )


def say_where(where: tuple[str, int], service: Service) -> None:
    """Print the address on the console, once the gateway listens."""
    log.info("🔀 [GATEWAY] %s/v1", url_of(*where))
    if service.is_open:
        log.log(*service.who_may())
