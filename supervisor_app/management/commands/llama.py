"""`manage.py llama start|stop|restart|status [NAME]`: wishes and looks from a shell."""

from __future__ import annotations

import json
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from supervisor_app.commands import Command as Wish
from supervisor_app.commands import ask, server_named
from supervisor_app.core.status import Status
from supervisor_app.models import LlamaServer
from supervisor_app.snapshots import ServerView, load_views
from supervisor_app.templatetags.supervisor_tags import duration

NO_SUCH_SERVER = 2


class Command(BaseCommand):
    help = "Start, stop or restart a llama-server, or show how it is."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("command", choices=[*(wish.value for wish in Wish), "status"])
        parser.add_argument("name", nargs="?", help="one server (default: all)")
        parser.add_argument(
            "--json",
            action="store_true",
            dest="as_json",
            help="the LlamaStatus of each, as /api/servers/ has it",
        )

    def handle(self, *, command: str, name: str | None, as_json: bool, **options: Any) -> None:
        try:
            self._do(command, name, as_json)
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used: {error}") from error

    def _do(self, command: str, name: str | None, as_json: bool) -> None:
        servers = LlamaServer.objects.all() if name is None else server_named(name)
        if not servers.exists():
            self._no_such_server(name)
        if command != "status":
            ask(Wish(command), servers)
        views = load_views(name)
        if as_json:
            self._print_json(views)
        elif command == "status":
            self._print(views)
        else:
            for view in views:
                self.stdout.write(f"{view.status.name}: asked to {command}")
        for view in views:
            self._warn_if_alone(view)

    def _no_such_server(self, name: str | None) -> None:
        known = ", ".join(LlamaServer.objects.values_list("name", flat=True)) or "none yet"
        if name is None:
            raise CommandError(
                "No server is configured. Run manage.py runsupervisor.", returncode=NO_SUCH_SERVER
            )
        raise CommandError(f"There is no server {name!r}. Servers: {known}.", returncode=NO_SUCH_SERVER)

    def _print_json(self, views: list[ServerView]) -> None:
        now = time.time()
        self.stdout.write(json.dumps([view.status.as_json(now) for view in views], indent=2))

    def _print(self, views: list[ServerView]) -> None:
        for view in views:
            status = view.status
            up = f", up {duration(status.uptime(time.time()))}" if status.started_at else ""
            self.stdout.write(f"{status.name}: {status.status}{up}. {status.detail}")
            if status.failure is not None and status.status is not Status.READY:
                self.stdout.write(f"  {status.failure.hint}")

    def _warn_if_alone(self, view: ServerView) -> None:
        if view.stale_since is not None:
            ago = duration(time.time() - view.stale_since)
            self.stderr.write(
                f"{view.status.name}: no supervisor has reported for {ago}. Run manage.py runsupervisor."
            )
