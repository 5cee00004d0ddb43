"""`manage.py llama start|stop|restart|status [NAME]`: wishes and looks from a shell."""

from __future__ import annotations

import json
import shlex
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from supervisor_app.common import words
from supervisor_app.common.redact import harmless
from supervisor_app.core.server_config import Wish
from supervisor_app.core.status import Status
from supervisor_app.fleet.commands import (
    NothingToRollBackError,
    NotSeamlessError,
    ask,
    ask_seamless,
    roll_back,
    seamless_answer,
    server_named,
)
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.devices import survey_this_node
from supervisor_app.fleet.lease import is_supervised
from supervisor_app.fleet.logfiles import FoundLog, find_log
from supervisor_app.fleet.models import LlamaServer, Run
from supervisor_app.fleet.need_report import report_file, report_server
from supervisor_app.fleet.planned import planned_views
from supervisor_app.fleet.report_facts import newest_crash, report_of
from supervisor_app.gateway.llama.operations import Family
from supervisor_app.roles.checks import OURS
from supervisor_app.roles.config_diff import diff_config
from supervisor_app.roles.config_import import import_config
from supervisor_app.roles.config_report import check_config, show_config
from supervisor_app.roles.key_command import key_command
from supervisor_app.roles.maintenance_command import maintenance_command
from supervisor_app.roles.memory_report import (
    devices_table,
    footprint_json,
    footprint_table,
)
from supervisor_app.roles.pulling import models_json, models_table, pull

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.fleet.need_report import NeedReport
    from supervisor_app.fleet.snapshots import ServerView

DOWN, NO_SUCH_SERVER = 1, 2
DIFFERS = 1
BEGIN_SECONDS = 10.0
"""Time for a supervisor to begin a restart without a gap, or to refuse it."""
FOLLOW_SECONDS = 0.25
FOLLOW_BYTES = 4 * 1024 * 1024
"""Shown at most of what came between two looks; of a flood that is its end."""


class Command(BaseCommand):
    requires_system_checks = (OURS,)
    help = "Start, stop or restart a llama-server, or show how it is."

    def add_arguments(self, parser: CommandParser) -> None:
        others = [
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
        ]
        words = [*(wish.value for wish in Wish), *others]
        parser.add_argument("command", choices=words)
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
        parser.add_argument("--endpoints", help=f"of key add: only these, of {','.join(Family)}")
        parser.add_argument(
            "--may-read", action="store_true", help="of key add: also /slots, /props, /metrics"
        )
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
        parser.add_argument(
            "--all", action="store_true", dest="of_all", help="of maintenance: of all servers"
        )
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
        parser.add_argument("-n", "--lines", type=int, default=50, help="of logs (default: 50)")
        parser.add_argument("-f", "--follow", action="store_true", help="of logs: go on until Ctrl+C")

    def handle(
        self,
        *,
        command: str,
        name: str | None,
        key_name: str | None,
        as_json: bool,
        lines: int,
        follow: bool,
        endpoints: str | None,
        may_read: bool,
        may_change: bool,
        until: str | None,
        note: str,
        of_all: bool,
        flags: str,
        seamless: bool,
        at_once: bool,
        mmproj: bool,
        **options: Any,
    ) -> None:
        if at_once and (seamless or command not in (Wish.STOP, Wish.RESTART)):
            raise CommandError("--now is of stop and of an ordinary restart.", returncode=2)
        if seamless and command != Wish.RESTART:
            raise CommandError(f"--seamless is of restart, not of {command}.", returncode=2)
        if endpoints is not None and command != "key":
            raise CommandError(f"--endpoints is of key add, not of {command}.", returncode=2)
        if key_name is not None and command not in ("key", "config", "report", "maintenance"):
            raise CommandError(f"{command} takes one name: {key_name!r} is one too many.", returncode=2)
        plain = {
            "devices": partial(self._show_devices, as_json),
            "models": partial(self._show_models, as_json),
            "import": partial(self._import, name),
            "rollback": partial(self._roll_back, name),
            "maintenance": partial(
                maintenance_command,
                name,
                key_name,
                of_all=of_all,
                until_said=until,
                words=note,
                write=self.stdout.write,
            ),
        }
        try:
            if command == "key":
                key_command(
                    name,
                    key_name,
                    until_said=until,
                    endpoints=endpoints,
                    write=self.stdout.write,
                    remark=self.stderr.write,
                    may_read=may_read,
                    may_change=may_change,
                )
            elif command == "config":
                self._config(name, key_name)
            elif command == "logs":
                self._show_log(name, lines, follow)
            elif command in plain:
                plain[command]()
            elif command == "pull":
                pull(name, projector=mmproj, write=self.stdout.write)
            elif command == "report":
                self.stdout.write(self._report_of(name, key_name), ending="")
            elif command == "footprint":
                self._show_footprint(name, flags, as_json)
            else:
                self._do(command, name, as_json, seamless=seamless, at_once=at_once)
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used: {error}") from error

    def _config(self, action: str | None, name: str | None) -> None:
        match action, name:
            case "check", None:
                self.stdout.write(check_config())
            case "diff", _:
                lines = diff_config(None if name is None else Path(name))
                for line in lines:
                    self.stdout.write(line)
                if lines:
                    raise SystemExit(DIFFERS)
            case "show", _:
                servers = LlamaServer.objects.all() if name is None else server_named(name)
                if not servers.exists():
                    self._no_such_server(name)
                for line in show_config(servers):
                    self.stdout.write(line)
            case _:
                usage = "Use: llama config check, llama config diff [FILE], or llama config show [NAME]."
                raise CommandError(usage, returncode=2)

    def _import(self, source: str | None) -> None:
        """The text alone goes to the standard output, so that it can be redirected into the file."""
        if source is None:
            raise CommandError('Of what? Name a file, or write "llama-server …" in quotes.', returncode=2)
        self.stdout.write(import_config(source), ending="")

    def _do(self, command: str, name: str | None, as_json: bool, *, seamless: bool, at_once: bool) -> None:
        servers = LlamaServer.objects.all() if name is None else server_named(name)
        if not servers.exists():
            self._no_such_server(name)
        if seamless:
            self._restart_seamlessly(servers)
        elif command != "status":
            ask(Wish(command), servers, at_once=at_once)
        views = planned_views(*([] if name is None else [name]))
        if as_json:
            self._print_json(views)
        elif command == "status":
            self._print(views)
        else:
            for view in views:
                self.stdout.write(f"{view.status.name}: asked to {command}")
        for node in sorted(set(servers.values_list("node", flat=True))):
            self._warn_if_alone(node, command)
        if command == "status" and not all(_is_ready(view) for view in views):
            raise SystemExit(DOWN)

    def _restart_seamlessly(self, servers: Iterable[LlamaServer]) -> None:
        """Ask, and wait until each has begun: what does not fit is refused by its supervisor."""
        try:
            asked = {server.name: ask_seamless(server) for server in servers}
        except NotSeamlessError as error:
            raise CommandError(str(error)) from error
        deadline = time.monotonic() + BEGIN_SECONDS
        for name, generation in asked.items():
            while (why := seamless_answer(name, generation)) is None and time.monotonic() < deadline:
                time.sleep(FOLLOW_SECONDS)
            if why:
                raise CommandError(f"{name}: {why}")

    def _the_server(self, name: str | None) -> LlamaServer:
        """The one with this name, or the only one."""
        servers = LlamaServer.objects.all() if name is None else server_named(name)
        if not servers.exists():
            self._no_such_server(name)
        if len(servers) > 1:
            known = ", ".join(server.name for server in servers)
            raise CommandError(f"Which one? Name it: {known}.", returncode=NO_SUCH_SERVER)
        return servers[0]

    def _roll_back(self, name: str | None) -> None:
        server = self._the_server(name)
        try:
            changed = roll_back(server, last_good(), "manage.py llama")
        except NothingToRollBackError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{server.name}: back to the last {', '.join(changed)} that reached ready")

    def _show_devices(self, as_json: bool) -> None:
        survey = survey_this_node()
        if as_json:
            self.stdout.write(json.dumps(survey.as_json(), indent=2))
            return
        for line in devices_table(survey):
            self.stdout.write(line)
        for problem in survey.problems:
            self.stderr.write(f"⚠️ {harmless(problem)}")

    def _show_models(self, as_json: bool) -> None:
        for line in [models_json()] if as_json else models_table():
            self.stdout.write(line)

    def _show_footprint(self, name: str | None, flags: str, as_json: bool) -> None:
        if name is None:
            raise CommandError("Of what? Name a server or a GGUF file.", returncode=NO_SUCH_SERVER)
        try:
            report = self._report(name, shlex.split(flags))
        except ValueError as error:
            raise CommandError(harmless(str(error))) from error
        if as_json:
            self.stdout.write(footprint_json(name, report))
            return
        for line in footprint_table(name, report):
            self.stdout.write(line)

    def _report(self, name: str, flags: list[str]) -> NeedReport:
        """Estimate the server with this name, else the file. Raises ModelError, FlagError."""
        servers, devices = server_named(name), survey_this_node().devices
        if servers.exists():
            return report_server(servers[0], devices, flags)
        if not Path(name).exists():
            known = ", ".join(LlamaServer.objects.values_list("name", flat=True)) or "none yet"
            raise CommandError(
                f"There is no server and no file {name!r}. Servers: {known}.", returncode=NO_SUCH_SERVER
            )
        return report_file(name, devices, flags)

    def _report_of(self, name: str | None, number: str | None) -> str:
        server = self._the_server(name)
        if number is None:
            run = newest_crash(server)
            missing = (
                f"No run of {server.name} has died. Name one to report it: llama report {server.name} RUN"
            )
        else:
            is_number = number.isascii() and number.isdigit() and len(number) < 19
            run = Run.objects.filter(server=server, pk=int(number)).first() if is_number else None
            missing = f"There is no run {number} of {server.name}: its page History has their numbers."
        if run is None:
            raise CommandError(missing)
        return report_of(run)

    def _show_log(self, name: str | None, lines: int, follow: bool) -> None:
        server = self._the_server(name)
        found = find_log(server)
        if not found.exists:
            where = f"{server.name} runs on node {server.node}, or was never started."
            raise CommandError(f"{found.log.path} does not exist: {found.note or where}")
        self._note(found)
        with suppress(KeyboardInterrupt, BrokenPipeError):
            position = found.log.size()
            self._show_lines(found.log.tail(lines))
            while follow:
                time.sleep(FOLLOW_SECONDS)
                found, position = self._show_news(server, found, position)

    def _show_news(self, server: LlamaServer, found: FoundLog, position: int) -> tuple[FoundLog, int]:
        """Print what was written since, wherever the log is by now."""
        with suppress(OSError):
            new, position = found.log.follow(position, FOLLOW_BYTES)
            self._show_lines(new)
        now = find_log(server)
        if now == found:
            return found, position
        if now.note != found.note:
            self._note(now)
        return now, position if now.inode == found.inode else 0

    def _show_lines(self, lines: list[str]) -> None:
        for line in lines:
            self.stdout.write(harmless(line))

    def _note(self, found: FoundLog) -> None:
        if found.note:
            self.stderr.write(f"⚠️ {found.note}")

    def _no_such_server(self, name: str | None) -> None:
        known = ", ".join(LlamaServer.objects.values_list("name", flat=True)) or "none yet"
        if name is None:
            raise CommandError(
                "No server is configured. Run manage.py runsupervisor.", returncode=NO_SUCH_SERVER
            )
        raise CommandError(f"There is no server {name!r}. Servers: {known}.", returncode=NO_SUCH_SERVER)

    def _print_json(self, views: list[ServerView]) -> None:
        now = time.time()
        self.stdout.write(json.dumps([view.as_json(now) for view in views], indent=2))

    def _print(self, views: list[ServerView]) -> None:
        for view in views:
            status = view.status
            up = f", up {words.duration(status.uptime(time.time()))}" if status.started_at else ""
            seen = f"{status.status}{up}" if view.is_known else "unknown"
            planned = " In maintenance." if view.is_planned else ""
            self.stdout.write(harmless(f"{status.name}: {seen}. {view.detail}{planned}"))
            if status.failure is not None and status.status is not Status.READY:
                self.stdout.write(f"  {status.failure.hint}")

    def _warn_if_alone(self, node: str, command: str) -> None:
        if is_supervised(node):
            return
        acts = "" if command == "status" else " Nothing happens until then."
        self.stderr.write(f"No supervisor runs on node {node}: start manage.py runsupervisor there.{acts}")


def _is_ready(view: ServerView) -> bool:
    return view.is_known and view.status.status is Status.READY
