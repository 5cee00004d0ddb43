"""`manage.py rungateway`: the gateway in processes of its own."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import uvloop
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection

from supervisor_app.common.addresses import address
from supervisor_app.common.signals import on_ends, on_hangups
from supervisor_app.common.storage import StoreError
from supervisor_app.common.watchdog import watchdog
from supervisor_app.common.words import MISTAKE
from supervisor_app.core.machine.file_limit import raise_file_limit
from supervisor_app.fleet.config_source import last_good
from supervisor_app.gateway.edge.role import BAD_USAGE, FAILED, add_gateway_options, prepare, say_where
from supervisor_app.gateway.workers.board import Board
from supervisor_app.gateway.workers.processes import FORCE, Workers, until_orphaned
from supervisor_app.gateway.workers.shared_counts import SharedCounts
from supervisor_app.roles.checks import OURS
from supervisor_app.roles.tables import tables_are_behind

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from supervisor_app.gateway.edge.service import Service

log = logging.getLogger("supervisor_app.gateway")


def worker_count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of workers. Use 1 to 256.")
    return int(text)


class Command(BaseCommand):
    requires_system_checks = (OURS,)
    help = "Serve the gateway: one address in front of all servers. Supervisors and pages run elsewhere."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--bind",
            type=address,
            default=("127.0.0.1", 8001),
            metavar="HOST:PORT",
            help="where it listens (default: 127.0.0.1:8001)",
        )
        parser.add_argument(
            "--workers",
            type=worker_count,
            default=1,
            metavar="N",
            help="processes that share the address, and all limits (default: 1)",
        )
        parser.add_argument("--worker-of", type=int, metavar="PID", help=argparse.SUPPRESS)
        parser.add_argument("--counts", type=Path, metavar="FILE", help=argparse.SUPPRESS)
        add_gateway_options(parser)

    def handle(
        self,
        *,
        bind: tuple[str, int],
        workers: int,
        worker_of: int | None,
        counts: Path | None,
        insecure_open: bool,
        grace: float,
        **options: Any,
    ) -> None:
        raise_file_limit()
        self._check_database()
        service = prepare(
            bind,
            last_good,
            insecure_open=insecure_open,
            grace=grace,
            shared=worker_of is not None,
            counts=counts,
        )
        if workers > 1:
            service.abandon()  # nobody listens there: workers would share the address with whoever does
            _run_workers(workers, worker_command(bind, insecure_open, grace))
            return
        try:
            _run(service, bind, worker_of)
        finally:
            if counts is not None and os.getppid() != worker_of:
                SharedCounts(counts).forget()

    def _check_database(self) -> None:
        try:
            behind = tables_are_behind()
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used: {error}", returncode=FAILED) from error
        finally:
            connection.close()
        if behind:
            raise CommandError(
                "The database is not up to date. Start a supervisor, or run manage.py migrate.",
                returncode=FAILED,
            )


def worker_command(bind: tuple[str, int], insecure_open: bool, grace: float) -> list[str]:
    host, port = bind
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    command = [sys.executable, sys.argv[0], "rungateway", "--bind", where, "--grace", str(grace)]
    command += ["--worker-of", str(os.getpid())]
    return [*command, "--insecure-open"] if insecure_open else command


def _run_workers(count: int, command: Sequence[str]) -> None:
    """Raises CommandError."""
    with _directory() as directory:
        with suppress(OSError):  # each worker says that there is none
            Board.create(Path(directory, Board.NAME), count)
        workers = Workers(lambda number: [*command, "--counts", f"{directory}/{number}.json"])
        code = asyncio.run(_watched(workers.run(count)))
    if code:
        raise CommandError("A worker failed.", returncode=code)


async def _watched(work: Coroutine[Any, Any, int]) -> int:
    watched = asyncio.create_task(watchdog().watch("workers"), name="watchdog")
    try:
        return await work
    finally:
        watched.cancel()


def _directory() -> TemporaryDirectory[str]:
    """Make the directory for what workers share. Raises CommandError."""
    try:
        return TemporaryDirectory(prefix="llamaproxy-gateway-", ignore_cleanup_errors=True)
    except OSError as error:
        raise CommandError(
            f"Workers need a temporary directory: {error.strerror}. Set TMPDIR to a writable one.",
            returncode=FAILED,
        ) from error


def _run(service: Service, bind: tuple[str, int], parent: int | None) -> None:
    """Raises CommandError."""
    try:
        uvloop.run(_serve(service, bind, parent))
    except StoreError as error:
        raise CommandError(f"{error}.", returncode=FAILED) from error
    except OSError as error:
        raise CommandError(
            f"The gateway cannot listen on {bind[0]}:{bind[1]}: {error.strerror}. Use another --bind.",
            returncode=BAD_USAGE,
        ) from error
    except Exception as error:
        log.critical("❌ [GATEWAY] It failed. %s.", MISTAKE, exc_info=error)
        raise CommandError("The gateway failed.", returncode=FAILED) from error


async def _serve(service: Service, bind: tuple[str, int], parent: int | None) -> None:
    """Serve until a signal or, for a worker, the end of its `parent`."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def on_signal() -> None:
        if asked.is_set() and parent is None:
            service.force()
        asked.set()

    on_ends(loop, on_signal)
    on_hangups(loop, asked.set)
    watched = asyncio.create_task(watchdog().watch("gateway"), name="watchdog")
    ends: list[asyncio.Task[Any]] = [asyncio.create_task(asked.wait(), name="signals")]
    if parent is not None:
        loop.add_signal_handler(FORCE, service.force)
        ends.append(asyncio.create_task(until_orphaned(parent), name="parent"))
    running = asyncio.create_task(_start_and_run(service, bind), name="gateway")
    await asyncio.wait({running, *ends}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        await service.stop()
    for task in (running, watched, *ends):
        task.cancel()
    results = await asyncio.gather(running, *ends, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]


async def _start_and_run(service: Service, bind: tuple[str, int]) -> None:
    await service.start()
    say_where(bind, service)
    await service.run()
