"""The first look at a request, when its head has come: is it let in?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from supervisor_app.gateway import problems
from supervisor_app.gateway.access.door import NotAllowedError
from supervisor_app.gateway.access.keys import Denied, Limiter, check_budget, check_operation
from supervisor_app.gateway.plane import own
from supervisor_app.gateway.plane.ports import ExchangeGateway
from supervisor_app.gateway.records.record import LONGEST_NAME

if TYPE_CHECKING:
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.plane.exchange import Exchange
    from supervisor_app.gateway.plane.live import LiveRequest


class Reception(own.Answering, ExchangeGateway, Protocol):
    """The gateway, where a request comes in."""

    draining: bool
    exchanges: set[LiveRequest]
    limiter: Limiter


def admit(gateway: Reception, exchange: Exchange) -> None:
    """Let a request in, answer it, or refuse it; after that its body may come."""
    head = exchange.head
    gateway.exchanges.add(exchange)
    if gateway.draining:
        exchange.refuse(problems.restarting())
        return
    may_be_ours = head.method != "POST" or head.path in own.PUBLIC
    is_stranger = True
    try:
        if may_be_ours and own.is_public(gateway, head):
            if own.is_preflight(head):
                gateway.door.check_preflight(head)
            else:
                gateway.door.check_page(head)
            own.answer(gateway, exchange)
            return
        if _is_public_file(gateway, head):
            exchange.is_public = True
            exchange.let_in(None)
            return
        policy = gateway.door.check(head, gateway.wall_time())
        is_stranger = False
        if exchange.has_too_many(policy):
            raise NotAllowedError(problems.too_many_connections())
        if policy is not None:
            check_operation(policy, head.operation, f"{head.method} {head.path[:LONGEST_NAME]}")
        if may_be_ours and own.is_ours(head):
            own.answer(gateway, exchange, policy)
            return
        if policy is not None:
            if (paused := gateway.inquest.pause_of(policy)) is not None:
                raise paused
            check_budget(policy, gateway.wall_time())
            gateway.limiter.admit(policy, gateway.loop.time())
        exchange.let_in(policy)
    except Denied as denied:
        exchange.notes.denied_key = denied.key
        exchange.notes.is_kept = not is_stranger or denied.key is not None
        exchange.refuse(problems.denied(denied))
        return
    except NotAllowedError as error:
        exchange.notes.is_kept = not is_stranger
        exchange.refuse(error.problem)
        return
    length = exchange.body.length
    if length is not None and length > gateway.limits.body_bytes:
        exchange.refuse(problems.body_too_large())


def _is_public_file(gateway: Reception, head: RequestHead) -> bool:
    """Is it a file of the web UI, asked for without a key? The one server says whether that is public."""
    return (
        head.operation.static and not head.presented_key and gateway.door.has_keys and gateway.takes_any_name
    )
