"""The items of the palette (Ctrl+K): servers, pages, actions. Pure but for the addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from supervisor_app.core.status import Status
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

TABS = (
    (_lazy("Log"), "log", Right.LOOK),
    (_lazy("Requests"), "server-requests", Right.LOOK),
    (_lazy("History"), "runs", Right.LOOK),
    (_lazy("Config"), "config", Right.ADMINISTER),
)
PLACES = (
    (_lazy("Requests"), "requests", Right.LOOK),
    (_lazy("Usage"), "usage", Right.LOOK),
    (_lazy("Models"), "models", Right.LOOK),
    (_lazy("Playground"), "playground", Right.OPERATE),
    (_lazy("Users"), "users", Right.ADMINISTER),
    (_lazy("Audit"), "audit", Right.ADMINISTER),
    (_lazy("Add a server"), "add-server", Right.ADMINISTER),
    (_lazy("Servers of the status page"), "status-servers", Right.ADMINISTER),
    (_lazy("Admin"), "admin:index", Right.ADMINISTER),
    (_lazy("Channels of alerts"), "channels", Right.ADMINISTER),
    (_lazy("API keys"), "keys", Right.ADMINISTER),
    (_lazy("Configuration of servers"), "admin:supervisor_app_llamaserver_changelist", Right.ADMINISTER),
)
ACTIONS = (
    (_lazy("Start"), "start", "", (Status.INITIAL, Status.CRASHED, Status.ERROR)),
    (
        _lazy("Restart"),
        "restart",
        _lazy(
            "Requests that are running now may finish first. It answers again as soon as its model is loaded."
        ),
        (Status.READY, Status.STARTING),
    ),
    (
        _lazy("Stop"),
        "stop",
        _lazy("Requests that are running now may finish first. It stays down until somebody starts it."),
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


def items_of(servers: Iterable[Known], rights: Collection[Right]) -> list[Item]:
    """List what somebody may go to or do."""
    known = list(servers)
    items = [_go(server.name, server.word, "server", server.name) for server in known]
    items += [_go(_("Overview"), _("page"), "home"), _go(_("Alerts"), _("page"), "alerts")]
    items += _existing((str(label), _("page"), name) for label, name, right in PLACES if right in rights)
    for server in known:
        tabs = [(f"{server.name}: {label}", name) for label, name, right in TABS if right in rights]
        items += _existing((label, _("page"), name, server.name) for label, name in tabs)
        items += _actions(server) if Right.OPERATE in rights else ()
    items += [
        {"label": label, "hint": _("setting"), "event": "theme", "detail": theme}
        for theme, label in (
            ("light", _("Theme: light")),
            ("dark", _("Theme: dark")),
            ("system", _("Theme: as the system has it")),
        )
    ]
    items.append({"label": _("Notify me of crashes: on or off"), "hint": _("setting"), "event": "notify"})
    items.append({"label": _("Show the keys"), "hint": _("help"), "event": "show-keys"})
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
            said = {"verb": verb, "server": server.name}
            yield {
                "label": _("%(verb)s %(server)s") % said,
                "hint": _("action"),
                "post": reverse("control", args=[server.name, wish]),
                "verb": str(verb),
                "server": server.name,
                "ask": str(question),
                "said": _("%(verb)s of %(server)s: asked for.") % said,
            }
