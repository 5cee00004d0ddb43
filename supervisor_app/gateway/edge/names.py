"""Names by which servers are asked for: those that do different work share none. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.work import Work, work_of
from supervisor_app.core.diagnosis import named_files
from supervisor_app.fleet.presets import aliases_among
from supervisor_app.gateway.llama.listing import is_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from supervisor_app.fleet.models import LlamaServer
    from supervisor_app.gateway.llama.listing import Listing

IN_ORDER = list(Work)


@dataclass(frozen=True, kw_only=True)
class Names:
    configured: tuple[str, ...]
    """Names that people gave it or its model: known also while it is down and cannot say its models."""
    foreign: frozenset[str]
    """Names of the same model that stand for servers which do other work with it."""
    id: str
    """The one name of its model in lists; empty for a router."""


def is_router(server: LlamaServer) -> bool:
    """Is it one by its configuration? A router that was taken over says so itself."""
    return bool(server.models_dir) or named_files.is_router(map(str, server.args))


def names_of_all(servers: Iterable[LlamaServer], listings: Mapping[str, Listing]) -> dict[str, Names]:
    """Return the names of each server. `listings`: what each said of its models last."""
    found = {server.name: server for server in servers}
    works = {name: work_of([str(arg) for arg in server.args]) for name, server in found.items()}
    configured = {name: tuple(_configured(server)) for name, server in found.items()}
    alone = [name for name, server in found.items() if not is_router(server)]
    owners = _owners(works, {name: (*configured[name], *listings[name].names) for name in alone})
    files = Counter((found[name].model_path, works[name]) for name in alone if found[name].model_path)
    names = {}
    for name, server in found.items():
        own = works[name]
        foreign = frozenset(each for each, work in owners.items() if work is not own and each != name)
        foreign = foreign if name in alone else frozenset()
        shares_file = files[server.model_path, own] > 1
        id_ = _only_id(server, foreign, shares_file=shares_file) if name in alone else ""
        names[name] = Names(configured=configured[name], foreign=foreign, id=id_)
    return names


def _owners(works: Mapping[str, Work], names: Mapping[str, Iterable[str]]) -> dict[str, Work]:
    """Return for which work each name stands that servers with different work have.

    That of the server whose own name it is, else text before embeddings before ranking.
    """
    claims: dict[str, set[Work]] = {}
    for server, own in names.items():
        for name in own:
            claims.setdefault(name, set()).add(works[server])
    return {
        name: works[name] if name in names else min(claimed, key=IN_ORDER.index)
        for name, claimed in claims.items()
        if len(claimed) > 1
    }


def _configured(server: LlamaServer) -> Iterable[str]:
    names = dict.fromkeys([server.name, *aliases_among(server.aliases, server.args)])
    if server.model_path and not is_router(server):
        path = PurePath(server.model_path)
        names |= {path.name: None, server.model_path: None, path.stem: None}
    return names


def _only_id(server: LlamaServer, foreign: Collection[str], *, shares_file: bool) -> str:
    """Name the model of a server that has one.

    By its alias, or else by the server's name; where several servers do the same work with one file, by that
    file's. None of these names depends on what the server does or says, so the name stays while it comes and
    goes.
    """
    aliases = aliases_among(server.aliases, server.args)
    alias = next((name for name in aliases if not is_path(name) and name not in foreign), "")
    stem = PurePath(server.model_path).stem
    return alias or (stem if shares_file and stem not in foreign else server.name)
