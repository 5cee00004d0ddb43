"""Group messages, fragments for pages and events for programs: one place for both of their ends."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from django.template.loader import render_to_string

from supervisor_app.common.sub_path import script_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from supervisor_app.core.loaded import Loaded
    from supervisor_app.core.status import LlamaStatus, RunSummary
    from supervisor_app.fleet.snapshots import ServerView

PUSH_GROUP = "llamaproxy.push"
"""Group of the processes that show status: the member of each is its hub."""


STATUS_GROUP = "llamaproxy.status"
"""Group of the gateways, one member a process. They get a change before it is rendered or saved."""


GATEWAYS_GROUP = "llamaproxy.gateways"
"""Group of the gateways for wishes about requests in flight: they read the database at once."""

PIECE = 32 * 1024
"""Characters of HTML that go into one message, unless a single server takes more."""


class Ending(TypedDict):
    """The end of the last process of a server."""

    kind: str
    """Kind of the failure; empty when there was none."""
    signal: int | None
    adopted: bool
    title: str


class Load(TypedDict):
    """The load of the process that runs: when it was ready, in Unix seconds, and how long its parts took."""

    ready_at: float
    room_seconds: float
    load_seconds: float


class News(TypedDict):
    """A change of a server, as a gateway needs it at once."""

    type: str
    server: str
    version: int
    status: str
    detail: str
    url: str
    draining: bool
    unloaded: bool
    failure: str
    """Kind of the failure that it is down for; empty: none."""
    pid: int | None
    adopted: bool
    endpoint: dict[str, Any] | None
    """Address at which the process was proved to listen (`core.sightings.Endpoint`)."""
    ending: Ending | None
    load: Load | None
    """None: it is not ready, or nobody has measured its load."""


class Push(TypedDict):
    """A status, rendered once for every process that has pages open."""

    type: str
    server: str
    version: int
    silent: bool
    """Nobody supervises the server: `silent` may change while the version does not."""
    planned: int
    """Number of its maintenance, which may change so, too; 0: it is in none."""
    status: str
    """Status in one word, for which alone a hidden page is told of a change."""
    html: str
    """Card of the server, for its page."""
    row: str
    """Parts of its row and of what needs attention, for the overview."""
    pill: str
    """Word alone, for every other page."""
    json: str


def supervisor_channel(node: str) -> str:
    """Return the channel on which a node's supervisor takes nudges."""
    return f"llamaproxy.supervisor.{node}"


def status_news(status: LlamaStatus) -> News:
    last = next((run for run in status.runs if not run.open), None)
    return News(
        type="status.news",
        server=status.name,
        version=status.version,
        status=status.status.value,
        detail=status.detail,
        url=status.url,
        draining=status.draining,
        unloaded=status.unloaded,
        failure=status.failure.kind.value if status.failure else "",
        pid=status.pid,
        adopted=status.adopted,
        endpoint=status.endpoint.as_json() if status.endpoint else None,
        ending=_ending(last) if last else None,
        load=load_of(status.ready_at, status.load),
    )


def load_of(ready_at: float | None, loaded: Loaded | None) -> Load | None:
    """`ready_at`: in Unix seconds."""
    if ready_at is None or loaded is None:
        return None
    return Load(ready_at=ready_at, room_seconds=loaded.room_ms / 1000, load_seconds=loaded.load_ms / 1000)


def _ending(life: RunSummary) -> Ending:
    failure = life.failure
    return Ending(
        kind=failure.kind.value if failure else "",
        signal=life.signal,
        adopted=life.adopted,
        title=failure.title if failure else "",
    )


def render_push(view: ServerView) -> Push:
    """Render one status for pages and programs. Slow (a template): not in the event loop."""
    now = time.time()
    context = {
        "view": view,
        "status": view.status,
        "stale_since": view.stale_since,
        "now": now,
        "oob": True,
    }
    return Push(
        type="status.push",
        server=view.status.name,
        version=view.status.version,
        silent=view.stale_since is not None,
        planned=view.plan.number if view.plan else 0,
        status=view.status.status.value,
        html=rendered("supervisor/_push.html", context),
        row=rendered("supervisor/_push_row.html", context),
        pill=rendered("supervisor/_pill.html", context),
        json=status_event(view, now),
    )


def render_list(views: Sequence[ServerView]) -> list[str]:
    """Render all servers, to replace the whole list of a page: which they are, then each, in pieces."""
    now = time.time()
    texts = [rendered("supervisor/_servers.html", {"views": views, "now": now, "oob": True})]
    texts += [rendered("supervisor/_entry.html", {"view": view, "now": now, "oob": True}) for view in views]
    return in_pieces(texts)


def in_pieces(texts: Iterable[str]) -> list[str]:
    """Join fragments to messages of at most `PIECE` characters, but for a fragment that is longer itself."""
    pieces: list[str] = []
    for text in texts:
        if pieces and len(pieces[-1]) + len(text) <= PIECE:
            pieces[-1] += text
        else:
            pieces.append(text)
    return pieces


def render_pills(views: Sequence[ServerView]) -> list[str]:
    """Render the words of all servers, for a page that is about none of them."""
    return [rendered("supervisor/_pills.html", {"views": views, "oob": True})]


@dataclass(frozen=True)
class Listing:
    """A view of all servers."""

    render: Callable[[Any], list[str]]
    """Render them, or what was loaded, as messages."""
    load: Callable[[Sequence[ServerView]], Any] | None = None
    """Read from the database what is shown beside the servers' states. Blocking."""


LISTINGS: dict[str, Listing] = {"": Listing(render_list), "pills": Listing(render_pills)}
"""Views by the name that a page asks for. The room of the pages adds its own."""


def render_all(shown: Any, *, as_json: bool, only: str | None, view: str = "") -> list[str]:
    """Render all messages of a snapshot. `only`: the one server that was asked for; it may be gone.

    `shown`: servers, or what the view of all servers has loaded.
    """
    if as_json:
        return [status_event(each, time.time()) for each in shown]
    if only is None:
        return LISTINGS[view].render(shown)
    parts = [part_of(render_push(each), view) for each in shown]
    # A page that shows words alone has no place to say that its server is gone.
    return parts or ([] if view == "pills" else [render_gone(only)])


def part_of(push: Push, view: str) -> str:
    """Return what a view shows of one server. Raises KeyError for a push of an older version."""
    return push["pill"] if view == "pills" else push["row"] if view == "rows" else push["html"]


def render_gone(name: str) -> str:
    """Render what is shown in place of a server that was deleted while its page was open."""
    return rendered("supervisor/_gone.html", {"name": name})


def rendered(template: str, context: dict[str, Any]) -> str:
    """Render a template outside of a request."""
    with script_prefix():
        return render_to_string(template, context)


def render_heartbeat(now: float) -> str:
    return f'<i id="heartbeat" hx-swap-oob="true" data-server-now="{round(now * 1000)}" hidden></i>'


def render_config_sign(at: int) -> str:
    """Render the sign that a configuration has changed. `at`: differs from one change to the next."""
    return f'<i id="config-sign" hx-swap-oob="true" data-at="{at}" hidden></i>'


def status_event(view: ServerView, now: float) -> str:
    """Return the `llama_status` event of the original. `timestamp` is in milliseconds."""
    return json.dumps(
        {
            "type": "llama_status",
            "server": view.status.name,
            "data": view.as_json(now),
            "timestamp": round(now * 1000),
        }
    )


def error_event(message: str) -> str:
    body: dict[str, Any] = {"type": "error", "message": message, "timestamp": round(time.time() * 1000)}
    return json.dumps(body)
