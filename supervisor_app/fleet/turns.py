"""Turns of servers that share an alias, in the database: at most one of them restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from supervisor_app.core.ports import TurnHolder
from supervisor_app.core.status import DOWN
from supervisor_app.fleet.lease import live_leases
from supervisor_app.fleet.models import LlamaServer, RestartTurn, ServerState
from supervisor_app.fleet.presets import aliases_among

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from django.db.models import QuerySet


def names_of(server: LlamaServer) -> frozenset[str]:
    """Return the names under which clients ask for a server, as people chose them."""
    return frozenset([server.name, *aliases_among(server.aliases, server.args)])


def shared_names(name: str, names: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Return the names of one server to which others answer as well; `names` are those of all servers."""
    others = {alias for server, aliases in names.items() if server != name for alias in aliases}
    return tuple(sorted(others.intersection(names[name])))


@transaction.atomic
def acquire(name: str, aliases: Sequence[str]) -> TurnHolder | None:
    """Acquire the turns of all aliases for a server, or of none: then return a server that has one.

    Rows are made and locked in one order, so that no two transactions wait for each other; those that the
    server has for earlier names, too. A server that waits has no turn.
    """
    server = LlamaServer.objects.filter(name=name).first()
    if server is None:
        return None
    rows = [RestartTurn(alias=alias, holder=server, since=Now()) for alias in sorted(aliases)]
    RestartTurn.objects.bulk_create(rows, ignore_conflicts=True)
    turns = RestartTurn.objects.filter(Q(alias__in=aliases) | Q(holder=server))
    taken = locked(turns).select_related("holder")
    alive = set(live_leases().values_list("node", flat=True))
    for turn in taken:
        if turn.holder_id != server.pk and turn.holder.node in alive:
            RestartTurn.objects.filter(holder=server).delete()
            failed = ServerState.objects.filter(server=turn.holder, status__in=DOWN).exists()
            return TurnHolder(server=turn.holder.name, alias=turn.alias, failed=failed)
    turns.exclude(holder=server).update(holder=server, since=Now())
    return None


@transaction.atomic
def release(name: str) -> None:
    """Release all turns that a server has."""
    turns = RestartTurn.objects.filter(holder__name=name)
    RestartTurn.objects.filter(pk__in=[turn.pk for turn in locked(turns)]).delete()


def locked(turns: QuerySet[RestartTurn]) -> QuerySet[RestartTurn]:
    """Lock rows in the order of their aliases. DELETE and UPDATE would lock them as they lie on the disk."""
    return turns.select_for_update(of=("self",)).order_by("alias")
