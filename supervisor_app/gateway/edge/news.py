"""Facts of a server after a supervisor's news of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from supervisor_app.core.sightings import Endpoint
from supervisor_app.core.status import Status
from supervisor_app.gateway.servers.facts import Load, ServerFacts, end_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def after_news(before: ServerFacts, news: Mapping[str, Any], now: float) -> ServerFacts | None:
    """Return what `events.status_news` changes in what is known; `now` in monotonic seconds.

    None: nothing. The news is older, or the server is elsewhere by it: that is for the database to say.
    """
    endpoint, status = Endpoint(**news["endpoint"]) if news["endpoint"] else None, Status(news["status"])
    here = before.endpoint or before.proved
    elsewhere = status is Status.READY and endpoint not in (None, here)
    moved = news["url"] != before.url or elsewhere
    if news["version"] <= before.version or moved or news["adopted"] != before.adopted:
        return None
    ending = news.get("ending")
    ends = before.ends
    if ending is not None and before.pid is not None and news["pid"] != before.pid:
        ends = {**ends, before.pid: end_of(**ending)}
    return replace(
        before,
        version=news["version"],
        heard_at=now,
        status=status,
        detail=news["detail"],
        draining=news.get("draining", False),  # a supervisor of the version before says nothing
        unloaded=news.get("unloaded", False),
        failure=news.get("failure", ""),
        pid=news["pid"],
        endpoint=here if endpoint is not None else before.endpoint,
        run=before.run if news["pid"] == before.pid else None,
        load=Load(**load) if (load := news.get("load")) else None,
        ends=ends,
        silent_since=None,  # its supervisor spoke
        away=False,
    )
