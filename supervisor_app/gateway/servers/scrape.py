"""llama-server's own metrics, to be merged into ours. A server without `--metrics` keeps none."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from supervisor_app.gateway.records.metrics import merge, relabel
from supervisor_app.gateway.servers.fetch import UNUSABLE, FetchError, RefusedError, fetch

if TYPE_CHECKING:
    from supervisor_app.gateway.servers.backend import Backend

SECONDS = 3.0
"""Time limit of each of at most three requests in a row: Prometheus waits for 10."""
MOST_MODELS = 32
"""Models of a router that are asked, which loads 4 by default."""
NO_MODEL_NAMED = 400
"""Status of a router's answer to a request that names no model."""
IN_MEMORY = ("loaded", "sleeping")


async def metrics_of(backend: Backend) -> str:
    """Samples of a server, each labelled with server and model; of a router, samples of its loaded models."""
    try:
        return await _ask(backend, "/metrics", next(iter(backend.facts.offered), ""))
    except RefusedError as error:
        if error.status != NO_MODEL_NAMED:
            return ""
    except FetchError:
        return ""
    models = await _loaded_models(backend)
    return merge(await asyncio.gather(*(_metrics_of_model(backend, model) for model in models)))


async def _loaded_models(backend: Backend) -> list[str]:
    try:
        told = json.loads(await fetch(backend, "/models", seconds=SECONDS))
        loaded = [str(each["id"]) for each in told["data"] if each["status"]["value"] in IN_MEMORY]
    except (FetchError, *UNUSABLE):
        return []
    return loaded[:MOST_MODELS]


async def _metrics_of_model(backend: Backend, model: str) -> str:
    """Samples of one model of a router, without loading a model that was unloaded in the meantime."""
    try:
        return await _ask(backend, f"/metrics?model={quote(model, safe='')}&autoload=false", model)
    except FetchError:
        return ""


async def _ask(backend: Backend, path: str, model: str) -> str:
    """Raises FetchError."""
    text = await fetch(backend, path, seconds=SECONDS)
    return relabel(text.decode("utf-8", "replace"), backend.facts.name, model)
