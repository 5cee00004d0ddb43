"""Servers of the status page: chosen by admins on a page or, which wins, by the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from supervisor_app.fleet.audit import note
from supervisor_app.fleet.models import LlamaServer, StatusServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIABLE = "LLAMAPROXY_STATUS_SERVERS"


def chosen_of(said: Sequence[str]) -> dict[str, str]:
    """Read `name` and `name=Title` of the setting: titles by names of servers."""
    pairs = (each.partition("=") for each in said if each.strip())
    return {name.strip(): title.strip() or name.strip() for name, _sign, title in pairs}


def is_set_by_environment() -> bool:
    return bool(chosen_of(settings.LLAMAPROXY_STATUS_SERVERS))


def chosen_servers() -> dict[str, str]:
    """Return titles by names of servers, in the order of the page. At most one query."""
    return chosen_of(settings.LLAMAPROXY_STATUS_SERVERS) or _by_title(
        {name: title or name for name, title in _rows().items()}
    )


@transaction.atomic
def choose(titles: Mapping[str, str]) -> None:
    """Put these servers on the page and no others. `titles`: by names of servers; empty: the name."""
    before = _rows()
    if before == dict(titles):
        return
    StatusServer.objects.exclude(server__name__in=titles).delete()
    for server in LlamaServer.objects.filter(name__in=titles):
        StatusServer.objects.update_or_create(server=server, defaults={"title": titles[server.name]})
    note("choose servers", "status page", _by_title(before), _by_title(titles))


def _rows() -> dict[str, str]:
    return dict(StatusServer.objects.values_list("server__name", "title"))


def _by_title(titles: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(titles.items(), key=lambda pair: (pair[1].casefold(), pair[0])))
