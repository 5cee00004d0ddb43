"""Facts of a server after a supervisor's news of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from supervisor_app.core.sightings import Endpoint
from supervisor_app.core.status import Status
from supervisor_app.gateway.servers.facts import Load, ServerFacts, end_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def after_news(before: ServerFacts, news: Mapping[str, Any]) -> ServerFacts | None:
    """Return what `events.status_news` changes in what is known. None: the news is older than that."""
    if news["version"] <= before.version:
        return None
    ending = news.get("ending")
    ends = before.ends
    if ending is not None and before.pid is not None and news["pid"] != before.pid:
        ends = {**ends, before.pid: end_of(**ending)}
    return replace(
        before,
        version=news["version"],
        status=Status(news["status"]),
        detail=news["detail"],
        url=news["url"],
        draining=news.get("draining", False),  # a supervisor of the version before says nothing
        unloaded=news.get("unloaded", False),
        failure=news.get("failure", ""),
        pid=news["pid"],
        endpoint=Endpoint(**news["endpoint"]) if news["endpoint"] else None,
        adopted=news["adopted"],
        api_key=before.key_of(adopted=news["adopted"]),
        run=before.run if news["pid"] == before.pid else None,
        load=Load(**load) if (load := news.get("load")) else None,
        ends=ends,
        silent_since=None,  # its supervisor spoke
        away=False,
    )
