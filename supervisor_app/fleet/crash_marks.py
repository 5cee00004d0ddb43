"""Marks of staff on crashes of one cause: resolved in a build, or muted up to a number a day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.utils import timezone

from supervisor_app.common.moments import moment
from supervisor_app.fleet.audit import note
from supervisor_app.fleet.crash_groups import Crash, crashes_of
from supervisor_app.fleet.models import CrashMark, LlamaServer

if TYPE_CHECKING:
    from django.contrib.auth.models import User

LONGEST_BUILD = 100
MOST = 10_000
"""Crashes a day that can be muted: more than there are."""


class BadMarkError(Exception):
    """A mistake in a mark, as a sentence."""


@dataclass(frozen=True, kw_only=True)
class Muted:
    """Newest crash of a server, whose cause people have muted."""

    kind: str
    above: int
    """Crashes a day up to which nobody is told."""
    today: int
    """Crashes of this cause in the last 24 hours, this one among them."""


def resolve(crash: Crash, server: LlamaServer, build: str, user: User) -> None:
    """Note that crashes like this one are mended from a build on. Raises BadMarkError."""
    build = build.strip()
    if not build or len(build) > LONGEST_BUILD or not build.isprintable():
        raise BadMarkError(f"{build!r} is no build. Say in which build it is mended, such as b11669.")
    said = {"resolved_build": build, "resolved_by": user.get_username(), "resolved_at": timezone.now()}
    _mark(crash, server, said, user, f"Resolved in build {build}.")


def reopen(crash: Crash, server: LlamaServer, user: User) -> None:
    """Take back that crashes like this one are mended."""
    said = {"resolved_build": "", "resolved_by": "", "resolved_at": None}
    _mark(crash, server, said, user, "Not resolved any more.")


def mute(crash: Crash, server: LlamaServer, above: str, user: User) -> None:
    """Alert nobody of crashes like this one until there are more than so many a day. Raises BadMarkError."""
    if not (above.isascii() and above.isdecimal() and 1 <= int(above[:6]) <= MOST and len(above) <= 6):
        raise BadMarkError(f"{above!r} is no number of crashes a day: say one from 1 to {MOST}.")
    said = {"mute_above": int(above), "muted_by": user.get_username(), "muted_at": timezone.now()}
    _mark(crash, server, said, user, f"Muted until more than {int(above)} a day.")


def unmute(crash: Crash, server: LlamaServer, user: User) -> None:
    """Tell of crashes like this one again from the first one on."""
    said = {"mute_above": None, "muted_by": "", "muted_at": None}
    _mark(crash, server, said, user, "Not muted any more.")


def muted() -> list[CrashMark]:
    """List the marks of all servers by which crashes are muted."""
    found = CrashMark.objects.exclude(mute_above=None).select_related("server")
    return list(found.order_by("server__name", "pk"))


@transaction.atomic
def unmute_mark(mark: CrashMark) -> None:
    """Tell of the crashes of a mark again from the first one on."""
    CrashMark.objects.filter(pk=mark.pk).update(mute_above=None, muted_by="", muted_at=None)
    note("mark", f"crash of {mark.server.name}", {"mute_above": mark.mute_above}, {"mute_above": None})


def marks_of(server: LlamaServer) -> dict[str, CrashMark]:
    """Read the marks of a server, by what their crashes share."""
    return {mark.key: mark for mark in CrashMark.objects.filter(server=server)}


def muted_now(server: LlamaServer, now: float) -> Muted | None:
    """Return the mute of a server's newest crash; None: it is not muted. `now`: Unix seconds."""
    marks = {key: mark for key, mark in marks_of(server).items() if mark.mute_above is not None}
    crashes = crashes_of(server, since=moment(now) - timedelta(days=1)) if marks else []
    mark = marks.get(crashes[0].key) if crashes else None
    if mark is None or mark.mute_above is None:
        return None
    today = sum(crash.key == crashes[0].key for crash in crashes)
    return Muted(kind=crashes[0].kind, above=mark.mute_above, today=today)


@transaction.atomic
def _mark(crash: Crash, server: LlamaServer, said: dict[str, Any], user: User, words: str) -> None:
    title = f"{crash.title}: {crash.line}"[:300]
    mark, _ = CrashMark.objects.update_or_create(
        server=server, key=crash.key, defaults=said, create_defaults={**said, "title": title}
    )
    LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(CrashMark),
        object_id=str(mark.pk),
        object_repr=str(mark)[:200],
        action_flag=CHANGE,
        change_message=words,
    )
    note("mark", f"crash of {server.name}", None, {"crash": title, "said": words})
