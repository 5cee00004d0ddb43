"""The list of all models, as clients of llama-server read it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor_app.common.words import iso
from supervisor_app.core.status import Status
from supervisor_app.gateway.llama.listing import Entry, is_path, names_of
from supervisor_app.gateway.servers.routing import offers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor_app.gateway.access.keys import KeyPolicy
    from supervisor_app.gateway.servers.facts import ServerFacts

LOADED, LOADING, UNLOADED, FAILED = "loaded", "loading", "unloaded", "failed"
VALUE = {
    Status.READY: LOADED,
    Status.STARTING: LOADING,
    Status.CRASHED: LOADING,
    Status.ERROR: FAILED,
}
"""Status of a model by the state of its server; in any other state the model is in no memory."""
IN_OLLAMAS_FORM = {
    "modified_at": "",
    "size": "",
    "digest": "",
    "type": "model",
    "description": "",
    "tags": [""],
    "capabilities": ["completion"],
    "parameters": "",
    "details": {
        "parent_model": "",
        "format": "gguf",
        "family": "",
        "families": [""],
        "parameter_size": "",
        "quantization_level": "",
    },
}
"""Fields that llama-server gives of any model."""


def catalogue(servers: Iterable[ServerFacts], policy: KeyPolicy | None, now: float) -> dict[str, Any]:
    """List the models that this key may use. `now`: Unix seconds."""
    found = offers(servers, policy)
    return {
        "object": "list",
        "data": [entry(model, having, now) for model, having in found.items()],
        "models": [_ollama_entry(model, having) for model, having in found.items()],
    }


def entry(model: str, servers: Sequence[ServerFacts], now: float) -> dict[str, Any]:
    """Describe the model with this name, as the first of its servers that ever told of it does.

    Our own knowledge is under a key of our own. `servers` have the model, and the first one answers soonest.
    """
    said = next((own for facts in servers if (own := _own_entry(facts, model))), {})
    first = servers[0]
    return {
        "object": "model",
        "created": int(now),
        "owned_by": "llamacpp",
        **said,
        "id": model,
        "aliases": _aliases(model, servers),
        "status": _status(model, first),
        "llamaproxy": {**_server(first), **_preset(model, first), "servers": [*map(_server, servers)]},
    }


def _own_entry(facts: ServerFacts, model: str) -> dict[str, Any]:
    """Return a model as its server said it; empty if it never did. All but routers have one, by any name."""
    listing = facts.listing
    if not listing.read_at:
        return {}
    if facts.is_router:
        return dict(listing.entry(model) or {})
    return dict(listing.data[0]) if listing.data else {}


def _aliases(model: str, servers: Iterable[ServerFacts]) -> list[str]:
    """List the other names of a model: no paths, which are for those who know them. Of a preset none."""
    names: dict[str, None] = {}
    for facts in servers:
        if model in facts.presets:
            continue
        if facts.is_router:
            own = facts.listing.entry(model)
            names |= dict.fromkeys(names_of(own) if own is not None else ())
        else:
            names |= dict.fromkeys((facts.name, *facts.models))
    return [name for name in names if name != model and not is_path(name)]


def _status(model: str, facts: ServerFacts) -> dict[str, Any]:
    if not facts.is_router:
        return {"value": UNLOADED if facts.away else VALUE.get(facts.status, UNLOADED)}
    said = _own_entry(facts, model).get("status")
    if facts.ready and isinstance(said, dict) and isinstance(said.get("value"), str):
        return said
    return {"value": FAILED if not facts.away and facts.status is Status.ERROR else UNLOADED}


def _server(facts: ServerFacts) -> dict[str, Any]:
    told = {"server": facts.name, "status": facts.status.value, "detail": facts.detail}
    if facts.silent_since is None:
        return told
    return {**told, "supervised": False, "lastSeen": iso(facts.silent_since)}


def _preset(model: str, facts: ServerFacts) -> dict[str, Any]:
    """Tell which fields of a request a preset changes; not to what, which may be nobody's business."""
    preset = facts.presets.get(model)
    return {} if preset is None else {"preset": {"name": preset.name, "changes": preset.changes}}


def _ollama_entry(model: str, servers: Iterable[ServerFacts]) -> dict[str, Any]:
    said: Entry = next((facts.listing.models[0] for facts in servers if facts.listing.models), {})
    return {**IN_OLLAMAS_FORM, **said, "name": model, "model": model}
