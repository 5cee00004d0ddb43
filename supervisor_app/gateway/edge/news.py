"""Facts of a server after a supervisor's news of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from supervisor_app.core.sightings import Endpoint
from supervisor_app.core.status import DOWN, Status
from supervisor_app.gateway.servers.facts import Load, ServerFacts, end_of

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Own:
    """The gateway's own process, as others are compared with it."""

    uid: int
    realm: str
    """Space in which addresses and users have their meaning (`core.machine.sockets.realm`)."""


def after_news(before: ServerFacts, news: Mapping[str, Any], now: float, own: Own) -> ServerFacts | None:
    """Return what `events.status_news` changes in what is known; `now` in monotonic seconds.

    None: nothing. The news is older, or the server is elsewhere by it: that is for the database to say.
    """
    status, ending = Status(news["status"]), news.get("ending")
    endpoint = Endpoint(**news["endpoint"]) if news["endpoint"] and status is Status.READY else None
    is_moved = news["url"] != before.url or news["adopted"] != before.adopted
    if news["version"] <= before.version or is_moved or not _is_known(endpoint, before, own):
        return None
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
        endpoint=endpoint or before.endpoint,
        run=before.run if news["pid"] == before.pid else None,
        load=Load(**load) if (load := news.get("load")) else None,
        ends=ends,
        silent_since=None,  # its supervisor spoke
        away=False,
    )


def says_all(before: ServerFacts, after: ServerFacts) -> bool:
    """Tell whether news brought all that a gateway has to know by now.

    A start may come of a wish, an end too unless it makes room, and a failure has more to tell: all of that
    is in the database.
    """
    is_up = after.status in (Status.STARTING, Status.READY)
    return before.wanted and (is_up or before.draining or after.unloaded)


def adds_nothing(push: Mapping[str, Any], known: ServerFacts) -> bool:
    """Tell whether a push only says that news are saved which are known, of a server that is well."""
    is_well = known.wanted and known.status not in DOWN
    return is_well and push["version"] <= known.version


def _is_known(endpoint: Endpoint | None, before: ServerFacts, own: Own) -> bool:
    """Is this where a row says that the server listens, or listened?

    So is the address that its row has, if a process of our own user listens there: whoever could take its
    place is who we are.
    """
    if endpoint in (None, before.endpoint, before.proved):
        return True
    place = urlsplit(before.url)
    is_named = place.hostname == endpoint.address or (
        place.hostname == "localhost" and ip_address(endpoint.address).is_loopback
    )
    is_own = (endpoint.uid, endpoint.realm) == (own.uid, own.realm)
    return is_named and endpoint.port == place.port and is_own and not before.adopted
