"""`manage.py llama start|stop|restart|status [NAME]`: wishes and looks from a shell."""

from __future__ import annotations

import json
import shlex
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from supervisor_app.common.redact import harmless
from supervisor_app.core.server_config import Wish
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
from supervisor_app.fleet.models import Run
from supervisor_app.fleet.need_report import report_file, report_server
from supervisor_app.fleet.planned import planned_views
from supervisor_app.fleet.report_facts import newest_crash, report_of
from supervisor_app.roles.checks import OURS
from supervisor_app.roles.config_diff import diff_config
from supervisor_app.roles.config_import import import_config
from supervisor_app.roles.config_report import check_config, show_config
from supervisor_app.roles.key_command import key_command
from supervisor_app.roles.llama_arguments import AnyOrderParser, add_arguments
from supervisor_app.roles.log_command import LogCommand
from supervisor_app.roles.maintenance_command import maintenance_command
from supervisor_app.roles.memory_report import (
    devices_table,
    footprint_json,
    footprint_table,
)
from supervisor_app.roles.named_servers import NO_SUCH_SERVER, known_names, servers_named, the_server
from supervisor_app.roles.pulling import models_json, models_table, pull
from supervisor_app.roles.status_report import all_are_ready, status_json, status_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.fleet.models import LlamaServer
    from supervisor_app.fleet.need_report import NeedReport

DOWN, DIFFERS, BAD_USAGE = 1, 1, 2
BEGIN_SECONDS = 10.0
"""Time for a supervisor to begin a restart without a gap, or to refuse it."""
LOOK_SECONDS = 0.25
"""Pause between two looks whether it has begun."""


class Command(BaseCommand):
    requires_system_checks = (OURS,)
    help = "Start, stop or restart a llama-server, or show how it is."

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **options)
        parser.__class__ = AnyOrderParser  # Django makes a CommandParser, whatever the command would like
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        add_arguments(parser)

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
            raise CommandError("--now is of stop and of an ordinary restart.", returncode=BAD_USAGE)
        if seamless and command != Wish.RESTART:
            raise CommandError(f"--seamless is of restart, not of {command}.", returncode=BAD_USAGE)
        if endpoints is not None and command != "key":
            raise CommandError(f"--endpoints is of key add, not of {command}.", returncode=BAD_USAGE)
        if key_name is not None and command not in ("key", "config", "report", "maintenance"):
            raise CommandError(
                f"{command} takes one name: {key_name!r} is one too many.", returncode=BAD_USAGE
            )
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
                log = LogCommand(the_server(name), write=self.stdout.write, remark=self.stderr.write)
                log.show(lines, follow=follow)
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
                for line in show_config(servers_named(name)):
                    self.stdout.write(line)
            case _:
                usage = "Use: llama config check, llama config diff [FILE], or llama config show [NAME]."
                raise CommandError(usage, returncode=BAD_USAGE)

    def _import(self, source: str | None) -> None:
        """The text alone goes to the standard output, so that it can be redirected into the file."""
        if source is None:
            raise CommandError(
                'Of what? Name a file, or write "llama-server …" in quotes.', returncode=BAD_USAGE
            )
        self.stdout.write(import_config(source), ending="")

    def _do(self, command: str, name: str | None, as_json: bool, *, seamless: bool, at_once: bool) -> None:
        servers = servers_named(name)
        if seamless:
            self._restart_seamlessly(servers)
        elif command != "status":
            ask(Wish(command), servers, at_once=at_once)
        views = planned_views(*([] if name is None else [name]))
        if as_json:
            self.stdout.write(status_json(views))
        elif command == "status":
            for line in status_lines(views):
                self.stdout.write(line)
        else:
            for view in views:
                self.stdout.write(f"{view.status.name}: asked to {command}")
        for node in sorted(set(servers.values_list("node", flat=True))):
            self._warn_if_alone(node, command)
        if command == "status" and not all_are_ready(views):
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
                time.sleep(LOOK_SECONDS)
            if why:
                raise CommandError(f"{name}: {why}")

    def _roll_back(self, name: str | None) -> None:
        server = the_server(name)
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
            raise CommandError(
                f"There is no server and no file {name!r}. Servers: {known_names()}.",
                returncode=NO_SUCH_SERVER,
            )
        return report_file(name, devices, flags)

    def _report_of(self, name: str | None, number: str | None) -> str:
        server = the_server(name)
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

    def _warn_if_alone(self, node: str, command: str) -> None:
        if is_supervised(node):
            return
        acts = "" if command == "status" else " Nothing happens until then."
        self.stderr.write(f"No supervisor runs on node {node}: start manage.py runsupervisor there.{acts}")
