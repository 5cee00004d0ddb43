"""`manage.py llama maintenance`: planned work, begun and ended from a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.management.base import CommandError
from django.utils import timezone

from supervisor_app.common.until import until
from supervisor_app.common.words import iso
from supervisor_app.fleet.maintenance import begin, finish, plans
from supervisor_app.roles.named_servers import the_server

if TYPE_CHECKING:
    from collections.abc import Callable

BAD_USAGE = 2
USAGE = "Use: llama maintenance NAME on|off, llama maintenance on|off --all, or llama maintenance."


def maintenance_command(
    name: str | None,
    switch: str | None,
    *,
    of_all: bool,
    until_said: str | None,
    words: str,
    write: Callable[[str], object],
) -> None:
    """Begin, end or list maintenance. Raises CommandError."""
    if of_all:
        name, switch = None, name if switch is None else ""
    if switch is None and name is None and not of_all:
        _list(write)
        return
    if switch not in ("on", "off"):
        raise CommandError(USAGE, returncode=BAD_USAGE)
    server = None if name is None else the_server(name)
    what = server.name if server else "all servers"
    if switch == "off":
        write(f"{what}: {'maintenance ended' if finish(server) else 'was in no maintenance of its own'}")
        return
    try:
        end = None if until_said is None else until(until_said, timezone.now())
    except ValueError as error:
        raise CommandError(f"--until: {error}", returncode=BAD_USAGE) from error
    begin(server, until=end, words=words, who="console")
    write(f"{what}: maintenance until {f'{end:%Y-%m-%d %H:%M} UTC' if end else 'somebody ends it'}")


def _list(write: Callable[[str], object]) -> None:
    found = plans()
    if not found:
        write("Nothing is in maintenance.")
    for plan in found:
        end = iso(plan.until, "seconds") or "somebody ends it"
        note = f": {plan.note}" if plan.note else ""
        write(f"{plan.server or 'all servers'}: until {end}, by {plan.by or 'the console'}{note}")
