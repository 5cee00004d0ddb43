"""Wishes: write the desired state, nudge the supervisor. Pages, API, admin and CLI all come through here."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from supervisor_app.common.outage import Outage
from supervisor_app.common.redact import HIDDEN
from supervisor_app.core.lifecycle.beside import why_not_seamless
from supervisor_app.core.server_config import Wish
from supervisor_app.core.status import UNDER_WAY
from supervisor_app.fleet.audit import note
from supervisor_app.fleet.conf import Overlay, fixed_fields, launch_of, overlaid
from supervisor_app.fleet.events import GATEWAYS_GROUP, PUSH_GROUP, supervisor_channel
from supervisor_app.fleet.layers import channel_layer
from supervisor_app.fleet.lease import is_supervised
from supervisor_app.fleet.models import LlamaServer, LlamaServerQuerySet, Run, ServerState
from supervisor_app.fleet.snapshots import replacement_from_json, view_of
from supervisor_app.fleet.validators import validate_args_of_form
from supervisor_app.fleet.versions import configured, note_version, shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)
_outage = Outage(
    log,
    "⚠️ [NUDGE] A supervisor was not told to look; it looks every second anyway: {error}",
    "✅ [NUDGE] Supervisors are told to look again",
)

ROLLED_BACK = "Rolled back to what reached ready last"
NUDGE_SECONDS = 1.0
"""The supervisor looks every second anyway: a slow channel layer is not worth more waiting."""


def ask(wish: Wish, servers: LlamaServerQuerySet, *, at_once: bool = False) -> int:
    """Note a wish; return the number of servers. The wish is on disk then; acting on it takes a moment.

    `at_once`: a stop or restart does not wait for requests in flight. A start has none to wait for.
    """
    with transaction.atomic():
        asked = list(servers.values_list("name", "node", "desired_running"))
        match wish:
            case Wish.START:
                count = servers.ask_to_start()
            case Wish.STOP:
                count = servers.ask_to_stop(at_once=at_once)
            case Wish.RESTART:
                count = servers.ask_to_restart(at_once=at_once)
            case never:
                assert_never(never)
        for name, _, was_to_run in asked:
            _note_wish(wish, name, was_to_run, **({"at_once": True} if at_once else {}))
    for node in {node for _, node, _ in asked}:
        nudge(node)
    return count


def _note_wish(wish: Wish, name: str, was_to_run: bool, **how: bool) -> None:
    after = {"desired_running": wish is not Wish.STOP, **how}
    note(wish.value, f"server {name}", {"desired_running": was_to_run}, after)


class NotSeamlessError(Exception):
    """The message says why a server cannot be restarted without a gap, in words for people."""


def ask_seamless(server: LlamaServer) -> int:
    """Note the wish for a restart without a gap; return its generation. Raises NotSeamlessError.

    The supervisor may still refuse it, which its status tells then: whether both fit in memory.
    """
    status = view_of(server).status
    if why := why_not_seamless(
        status.status,
        status.models,
        adopted=status.adopted,
        draining=status.draining,
        port_is_chosen=server.port_is_chosen,
    ):
        raise NotSeamlessError(f"{server.name} is not restarted without a gap. {why}")
    with transaction.atomic():
        server_named(server.name).ask_to_restart(seamless=True)
        _note_wish(Wish.RESTART, server.name, server.desired_running, seamless=True)
    nudge(server.node)
    server.refresh_from_db(fields=["generation"])
    return server.generation


def seamless_answer(name: str, generation: int) -> str | None:
    """Return why a restart without a gap came to nothing, by its generation; empty: it goes on, or is done.

    None: its supervisor has not answered.
    """
    state = ServerState.objects.filter(server__name=name, generation__gte=generation).first()
    if state is None:
        return None
    found = replacement_from_json(state.replacement)
    if found is None or found.stage not in UNDER_WAY:
        return found.detail if found is not None else ""
    return "" if found.identity is not None else None


class NothingToRollBackError(Exception):
    """The message says why, in words for people."""


@transaction.atomic
def roll_back(server: LlamaServer, overlay: Overlay, author: str = "") -> list[str]:
    """Bring back what was configured when it last reached ready, and start it. Returns the fields changed.

    Fields that the config file sets are not touched: the file would win anyway. Raises
    NothingToRollBackError.
    """
    good = Run.objects.filter(server=server).reached_ready().exclude(launch={}).first()
    if good is None:
        raise NothingToRollBackError(f"No configuration of {server.name} has ever reached ready.")
    fixed = fixed_fields(server, overlay)
    now = launch_of(server)
    differs = [name for name, value in good.launch.items() if now[name] != value]
    changed = [name for name in differs if name not in fixed]
    if not changed:
        where = (
            f" What differs is set in {server.file or overlay.source}: change it there." if differs else ""
        )
        raise NothingToRollBackError(f"{server.name} has the configuration that ran last.{where}")
    brought_back = {name: good.launch[name] for name in changed}
    if any(HIDDEN in word for word in brought_back.get("args", [])):
        raise NothingToRollBackError(
            f"The flags of {server.name} held a secret, which the history does not keep. Set them by hand."
        )
    try:
        validate_args_of_form(brought_back.get("args", []))
    except ValidationError as error:
        raise NothingToRollBackError(" ".join(error.messages)) from error
    try:
        with transaction.atomic():
            before = configured(server_named(server.name).get())
            server_named(server.name).update(**brought_back)
            server_named(server.name).ask_to_start()
            note_version(server_named(server.name).get(), before, author, ROLLED_BACK)
    except IntegrityError as error:
        raise NothingToRollBackError(f"Its port {good.launch['port']} is another server's now.") from error
    tell_configured(server)
    return changed


class NotDeletedError(Exception):
    """The message says why a server stays, in words for people."""


def why_kept(server: LlamaServer, overlay: Overlay) -> str:
    """Return why a server cannot be deleted by people; empty: it can."""
    if server.file:
        return f"{server.name} is described by {server.file}: remove its table there."
    if overlaid(server, overlay):
        return f"{server.name} is described by {overlay.source}, which would bring it back: remove that file."
    state = ServerState.objects.filter(server=server).first()
    if state is not None and state.pid is not None and not is_supervised(server.node):
        return f"Nobody would end its process: start the supervisor of {server.node} first."
    return ""


def delete_server(server: LlamaServer, overlay: Overlay) -> None:
    """Delete a server with its history; its supervisor stops it then. Raises NotDeletedError."""
    if why := why_kept(server, overlay):
        raise NotDeletedError(why)
    with transaction.atomic():
        note("delete", f"server {server.name}", shown(configured(server)))
        server.delete()
    nudge(server.node)


def nudge(node: str) -> None:
    """Tell a node's supervisor to look, once what it is to see is committed. Lost is no harm."""
    _once_committed(partial(nudge_now, node))


def nudge_now(node: str) -> None:
    _at_once(anudge, node)


def tell_configured(server: LlamaServer) -> None:
    """Tell its supervisor, and pages open at its configuration, that this has changed. Lost is no harm.

    Such a page compares versions when it applies a change, and asks whenever its socket opens.
    """
    nudge(server.node)
    news = {"type": "config.changed", "server": server.name}
    _once_committed(partial(_at_once, _send_group, PUSH_GROUP, news))


def _once_committed(act: Callable[[], None]) -> None:
    if transaction.get_connection().in_atomic_block:
        transaction.on_commit(act)
    else:  # `on_commit` would ask the database whether it is there
        act()


def _at_once(send: Callable[..., Awaitable[None]], *what: Any) -> None:
    try:
        async_to_sync(send)(*what)
    except RuntimeError as error:  # called within an event loop
        _outage.failed(error)


async def anudge(node: str) -> None:
    """The same, from an event loop."""
    await _send(node, {"type": "server.nudge"})


def nudge_gateways() -> None:
    """Tell all gateways to look for wishes. Lost is no harm: they look every second."""
    _at_once(_send_group, GATEWAYS_GROUP, {"type": "gateway.nudge"})


async def tell_moved(node: str, servers: list[str]) -> None:
    """Tell a node's supervisor that answers of these servers come. Lost is no harm: there will be more."""
    await _send(node, {"type": "server.moved", "servers": servers})


async def tell_waiting(node: str, gateway: str, counts: dict[str, int]) -> None:
    """Tell a node's supervisor how many requests wait for its servers in this gateway. Lost is no harm."""
    await _send(node, {"type": "server.waiting", "gateway": gateway, "counts": counts})


async def tell_closed(node: str, gateway: str, server: str, version: int, in_flight: int) -> None:
    """Tell a node's supervisor that this gateway sends a server nothing more. Lost costs 50 ms."""
    said = {"gateway": gateway, "server": server, "version": version, "in_flight": in_flight}
    await _send(node, {"type": "server.closed", **said})


async def _send(node: str, message: dict[str, Any]) -> None:
    await _deliver(channel_layer().send, supervisor_channel(node), message)


async def _send_group(group: str, message: dict[str, Any]) -> None:
    await _deliver(channel_layer().group_send, group, message)


async def _deliver(
    send: Callable[[str, dict[str, Any]], Awaitable[None]], to: str, message: dict[str, Any]
) -> None:
    try:
        async with asyncio.timeout(NUDGE_SECONDS):
            await send(to, message)
    except Exception as error:  # any client library's own kind: a nudge may be lost
        _outage.failed(error)
    else:
        _outage.over()


def server_named(name: str) -> LlamaServerQuerySet:
    return LlamaServer.objects.filter(name=name)
