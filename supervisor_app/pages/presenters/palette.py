"""The items of the palette (Ctrl+K): servers, pages, actions. Pure but for the addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.urls import NoReverseMatch, reverse

from supervisor_app.core.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TABS = (("Log", "log"), ("Requests", "server-requests"), ("History", "runs"))
PLACES = (
    ("Requests", "requests"),
    ("Usage", "usage"),
    ("Models", "models"),
    ("Admin", "admin:index"),
    ("Channels of alerts", "admin:alerts_alertchannel_changelist"),
    ("API keys", "admin:traffic_apikey_changelist"),
    ("Configuration of servers", "admin:supervisor_app_llamaserver_changelist"),
)
CUTS = "Requests that are running now are cut off. "
ACTIONS = (
    ("Start", "start", "", (Status.INITIAL, Status.CRASHED, Status.ERROR)),
    (
        "Restart",
        "restart",
        f"{CUTS}It answers again as soon as its model is loaded.",
        (Status.READY, Status.STARTING),
    ),
    (
        "Stop",
        "stop",
        f"{CUTS}It stays down until somebody starts it.",
        (Status.READY, Status.STARTING, Status.CRASHED, Status.ERROR),
    ),
)
"""Verb, wish, question before it, and in which states it is offered."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A server as far as the palette needs it."""

    name: str
    status: Status
    word: str


Item = dict[str, str]
"""`label`, `hint`, and `href`, or `event` with `detail`, or `post` with `verb`, `server`, `ask`, `said`."""


def items_of(servers: Iterable[Known], *, is_staff: bool) -> list[Item]:
    """List what somebody may go to or do."""
    known = list(servers)
    items = [_go(server.name, server.word, "server", server.name) for server in known]
    items += [_go("Overview", "page", "home"), _go("Alerts", "page", "alerts")]
    if is_staff:
        items += _existing((label, "page", name) for label, name in PLACES)
        for server in known:
            items += _existing((f"{server.name}: {label}", "page", name, server.name) for label, name in TABS)
            items += _actions(server)
    items += [
        {"label": f"Theme: {theme}", "hint": "setting", "event": "theme", "detail": theme}
        for theme in ("light", "dark", "system")
    ]
    items.append({"label": "Notify me of crashes: on or off", "hint": "setting", "event": "notify"})
    items.append({"label": "Show the keys", "hint": "help", "event": "show-keys"})
    return items


def _go(label: str, hint: str, page: str, *arguments: str) -> Item:
    return {"label": label, "hint": hint, "href": reverse(page, args=arguments)}


def _existing(pages: Iterable[tuple[str, ...]]) -> Iterator[Item]:
    """Yield the pages that this installation has."""
    for label, hint, page, *arguments in pages:
        try:
            yield _go(label, hint, page, *arguments)
        except NoReverseMatch:
            continue


def _actions(server: Known) -> Iterator[Item]:
    for verb, wish, question, states in ACTIONS:
        if server.status in states:
            yield {
                "label": f"{verb} {server.name}",
                "hint": "action",
                "post": reverse("control", args=[server.name, wish]),
                "verb": verb,
                "server": server.name,
                "ask": question,
                "said": f"{verb} of {server.name}: asked for.",
            }
