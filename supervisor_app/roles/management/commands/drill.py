"""`manage.py drill NAME --fault kill`: prove the recovery on one's own machine."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from supervisor_app.fleet.drill import DrillError, Fault, Report, hold
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.roles.checks import OURS

BAD_USAGE = 2
EXPLANATIONS = {
    Fault.KILL: "kills its process (SIGKILL)",
    Fault.SEGV: "makes its process crash (SIGSEGV)",
    Fault.TERM: "ends its process behind the supervisor's back (SIGTERM)",
    Fault.STOP: "freezes its process (SIGSTOP): it hangs until that is noticed",
    Fault.PORT: "kills its process and holds its port for some seconds",
}


class Command(BaseCommand):
    requires_system_checks = (OURS,)
    help = "Injects a fault into a server on purpose and measures how it recovers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the server; it must be ready and run on this machine")
        parser.add_argument("--fault", choices=[fault.value for fault in Fault], default=Fault.KILL.value)
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument(
            "--patience", type=float, default=120.0, help="seconds to wait for each step (default: 120)"
        )

    def handle(self, *, name: str, fault: str, yes: bool, patience: float, **options: Any) -> None:
        server = LlamaServer.objects.filter(name=name).first()
        if server is None:
            known = ", ".join(LlamaServer.objects.values_list("name", flat=True)) or "none yet"
            raise CommandError(f"There is no server {name!r}. Servers: {known}.", returncode=BAD_USAGE)
        chosen = Fault(fault)
        if not yes:
            self._ask(name, chosen)
        try:
            report = hold(server, chosen, patience=patience, say=self.stdout.write)
        except DrillError as error:
            raise CommandError(str(error)) from error
        self._print(report)

    def _ask(self, name: str, fault: Fault) -> None:
        if not sys.stdin.isatty():
            raise CommandError(
                f"This {EXPLANATIONS[fault]}. Not on a terminal: say --yes if you mean it.",
                returncode=BAD_USAGE,
            )
        answer = input(f"This {EXPLANATIONS[fault]}; requests to {name} fail meanwhile. Type yes: ")
        if answer.strip().lower() != "yes":
            raise CommandError("Nothing was done.")

    def _print(self, report: Report) -> None:
        self.stdout.write(
            f"noticed after   {report.noticed_after * 1000:8.0f} ms\n"
            f"down for        {report.down_for * 1000:8.0f} ms\n"
            f"recovered by    pid {report.old_pid} -> {report.new_pid}\n"
            f"diagnosis       {report.failure}\n"
            f"requests lost   {report.lost} of {report.asked} (one every 50 ms)"
        )
