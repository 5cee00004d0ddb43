"""`manage.py runsupervisor`: parse the options, wire the parts, run them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channels.routing import get_default_application
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection, transaction

from llamaproxy.options import Options, add_place_options
from supervisor_app.common.addresses import WILDCARDS, url_of, who_listens
from supervisor_app.common.database import DatabaseThread
from supervisor_app.common.signals import ignore_signals, on_ends, on_hangups
from supervisor_app.common.sub_path import sub_path
from supervisor_app.core.machine.file_limit import raise_file_limit
from supervisor_app.core.ports import NodeTakenError
from supervisor_app.fleet.conf import DEFAULT_SERVER, ConfigError, Overlay, lock_of
from supervisor_app.fleet.config_file import check_one_file, read_overlay
from supervisor_app.fleet.config_source import keep_last_good
from supervisor_app.fleet.file_servers import prepare_rows
from supervisor_app.fleet.lease import Lease
from supervisor_app.fleet.logins import link_of, new_login_token, say_link
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.gateway.edge.role import add_gateway_options, prepare
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.roles.checks import OURS
from supervisor_app.roles.demo import demo_overlay
from supervisor_app.roles.lock import NodeLock, NodeLockedError
from supervisor_app.roles.runtime import Runtime
from supervisor_app.roles.tables import tables_are_behind
from supervisor_app.web.descriptors import Shares, connection_shares
from supervisor_app.web.limits import WebLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

log = logging.getLogger("supervisor_app.runsupervisor")

BAD_USAGE, FAILED, NODE_TAKEN = 2, 3, 4


class Command(BaseCommand):
    requires_system_checks = (OURS,)
    help = "Keep this node's llama-servers running and, unless told not to, serve the pages."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        add_place_options(parser, settings.LLAMAPROXY_NODE)
        add_gateway_options(parser)
        parser.add_argument(
            "--keep-servers",
            action="store_true",
            help="at the end leave the servers running for the next supervisor, as SIGUSR1 does",
        )
        parser.add_argument("--demo", action="store_true", help="run on a tiny model made on the spot")

    def handle(self, **parsed: Any) -> None:
        options = Options.of(parsed)
        node = options.node
        raise_file_limit()
        try:
            with NodeLock(lock_of(node)), ExitStack() as stack:
                overlay, lease = self.prepare_node(node, options.demo), Lease(node)
                stack.enter_context(held(lease))
                service = None
                if options.serves_gateway:
                    service = prepare(
                        options.gateway,
                        overlay,
                        insecure_open=options.insecure_open,
                        grace=options.grace,
                        option="--gateway, or --no-gateway",
                        beside_web=True,
                    )
                make_runtime = partial(
                    Runtime,
                    node=node,
                    overlay=overlay,
                    log_dir=settings.DATA_DIR / "logs",
                    lease=lease,
                    keep_servers=options.keep_servers,
                    gateway=service,
                )
                if options.no_web:
                    supervise(make_runtime)
                else:
                    serve(options.bind, make_runtime)
        except (NodeLockedError, NodeTakenError) as error:
            raise CommandError(
                f"Another supervisor holds node {node!r}: {error}. "
                "Stop it, or give this one a node of its own: --node NAME, or LLAMAPROXY_NODE.",
                returncode=NODE_TAKEN,
            ) from error
        except ConfigError as error:
            raise CommandError(str(error), returncode=BAD_USAGE) from error
        except OSError as error:
            raise CommandError(
                f"{error.filename or 'The data directory'}: {error.strerror}", returncode=BAD_USAGE
            ) from error

    def prepare_node(self, node: str, demo: bool) -> Callable[[], Overlay]:
        """Prepare config, database and the first server. Raises ConfigError, CommandError."""
        check_one_file(settings.LLAMAPROXY_CONFIG, named=settings.LLAMAPROXY_CONFIG_NAMED)
        first = read_overlay(settings.LLAMAPROXY_CONFIG)
        say_what_stays_here(os.environ)
        try:
            if tables_are_behind():
                log.info("🗄️ [DATABASE] Bringing it up to date")
                _migrate()
            prepare_rows(node, first)
            if _wants_default(node, first, demo):
                _ensure_default(node, first)
            say_if_idle(node, first)
            extra = demo_overlay(first, Path(settings.DATA_DIR)) if demo else Overlay()
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used: {error}", returncode=FAILED) from error
        return keep_last_good(first, extra)


def _migrate() -> None:
    """Apply all migrations or none.

    Django notes some migrations only after they are committed; a migration killed in between would be tried
    again for ever.
    """
    # SQLite can do this outside of a transaction only.
    with connection.constraint_checks_disabled(), transaction.atomic():
        call_command("migrate", verbosity=0, interactive=False)


def _wants_default(node: str, overlay: Overlay, demo: bool) -> bool:
    if overlay.fleet_file:
        return demo
    return bool(overlay.values) or not LlamaServer.objects.on_node(node).exists()


def _ensure_default(node: str, overlay: Overlay) -> None:
    """Make the server `default`, unless a node has it. Raises ConfigError when its port is not free."""
    server = LlamaServer.objects.filter(name=DEFAULT_SERVER).first()
    if server is None:
        server = LlamaServer(name=DEFAULT_SERVER, node=node)
    elif server.node != node:
        return
    port = overlay.values.get("port", server.port)
    other = LlamaServer.objects.on_node(node).filter(port=port).exclude(name=DEFAULT_SERVER).first()
    if other is not None:
        raise ConfigError(
            f"The servers {DEFAULT_SERVER!r} and {other.name!r} would share port {port}. Set another "
            f"llama_server_port in {settings.LLAMAPROXY_CONFIG}, or another port in the admin."
        )
    if server.pk is None:
        server.port = port
        server.save()


@contextmanager
def held(lease: Lease) -> Iterator[None]:
    """Hold the lease of the node in the database. Raises NodeTakenError, CommandError."""
    try:
        lease.take()
    except DatabaseError as error:
        raise CommandError(f"The database cannot be used: {error}", returncode=FAILED) from error
    try:
        yield
    finally:
        DatabaseThread("lease").close(farewell=lease.release)


def supervise(make_runtime: Callable[[], Runtime]) -> None:
    """Supervise without pages, in our own event loop. Raises NodeTakenError, and CommandError on failure."""
    try:
        asyncio.run(_supervise(make_runtime))
    except NodeTakenError:
        raise
    except Exception as error:
        log.critical("❌ [SUPERVISOR] It failed: the servers go on without it", exc_info=error)
        raise CommandError("The supervisor failed.", returncode=FAILED) from error


async def _supervise(make_runtime: Callable[[], Runtime]) -> None:
    runtime = make_runtime()
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(runtime.run(), name="supervision")

    def leave() -> None:
        runtime.keep_servers = True
        on_signal()

    def on_signal() -> None:
        if task.cancelling():
            log.warning("⚠️ Asked again: ending at once")
            runtime.force()
        else:
            log.info("👋 Stopping; press Ctrl+C again to force")
            task.cancel()

    def on_hangup() -> None:
        """End because the terminal closed. Shell and kernel may both report it: no haste is meant."""
        if not task.cancelling():
            on_signal()

    on_ends(loop, on_signal)
    loop.add_signal_handler(signal.SIGUSR1, leave)
    on_hangups(loop, on_hangup)
    try:
        await task
    except asyncio.CancelledError:
        if not task.cancelling():
            raise
    finally:
        ignore_signals(loop)


def serve(bind: tuple[str, int], make_runtime: Callable[[asyncio.AbstractEventLoop], Runtime]) -> None:
    """Serve pages and supervise in one process.

    Raises CommandError when the address is taken or supervision fails, and NodeTakenError.
    """
    host, port = bind
    if host in WILDCARDS:
        log.info("🌐 [WEB] Open to the network: set ALLOWED_HOSTS to the names that people type")
    application = get_default_application()
    # Here, because importing Daphne installs a Twisted reactor: not wanted without pages.
    from supervisor_app.roles.server import SupervisedServer

    shown = url_of(host, port)
    wanted = Shares(web=WebLimits().connections, gateway=Limits().connections)
    server = SupervisedServer(
        application=application,
        host=host,
        port=port,
        limits=WebLimits(connections=connection_shares(wanted).web),
        make_runtime=make_runtime,
        # The token now: in the event loop the database may not be asked.
        on_listening=partial(say_where, shown, new_login_token()),
    )
    server.run()
    if server.abort_start:
        raise CommandError(
            f"{shown} cannot be listened on: the address is in use{who_listens(port)} or not ours. "
            "Use another --bind.",
            returncode=BAD_USAGE,
        )
    if isinstance(server.failed, NodeTakenError):
        raise server.failed
    if server.failed is not None:
        raise CommandError("The supervisor failed.", returncode=FAILED)


def say_what_stays_here(environ: Mapping[str, str]) -> None:
    """Warn of variables that llama-server would read and that are not passed on to it."""
    names = sorted(name for name in environ if name.startswith("LLAMA_ARG_") or name == "LLAMA_API_KEY")
    if names:
        log.warning(
            "⚠️ [CONFIG] Not passed on to llama-server: %s. Use llama_server_args and llama_api_key of %s.",
            ", ".join(names),
            settings.LLAMAPROXY_CONFIG,
        )


def say_if_idle(node: str, overlay: Overlay) -> None:
    """Warn of a node that has no servers. The file's `default` may be that of another node."""
    if LlamaServer.objects.on_node(node).exists():
        return
    owner = LlamaServer.objects.filter(name=DEFAULT_SERVER).values_list("node", flat=True).first()
    why = ""
    if overlay.values and owner:
        why = f" {overlay.source} describes the server {DEFAULT_SERVER!r}, which belongs to node {owner!r}."
    log.warning(
        "⚠️ [NODE] No server belongs to node %r: there is nothing to run.%s Make one in the admin with this "
        "node, or describe several in a llamaproxy.toml.",
        node,
        why,
    )


def say_where(url: str, token: str | None) -> None:
    log.info("🌐 [WEB] %s%s (Ctrl+C ends it)", url, sub_path())
    if token is not None:
        say_link(url + link_of(token))
