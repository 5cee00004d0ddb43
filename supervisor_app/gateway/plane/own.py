"""Answers of the gateway's own: its health, the models of all servers, metrics, a browser's preflight."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs

from supervisor_app.common.words import MISTAKE
from supervisor_app.gateway import problems
from supervisor_app.gateway.llama.hints import Hints
from supervisor_app.gateway.llama.listing import is_path
from supervisor_app.gateway.plane.ports import ExchangeGateway
from supervisor_app.gateway.problem import JSON_FIELDS, cors_fields
from supervisor_app.gateway.servers.backend import rank
from supervisor_app.gateway.servers.catalogue import catalogue, entry
from supervisor_app.gateway.servers.routing import may_use, offers, serves

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.gateway.access.keys import KeyPolicy
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.plane.exchange import Exchange
    from supervisor_app.gateway.servers.facts import ServerFacts

log = logging.getLogger(__name__)

HEALTH = ("/health", "/v1/health")
MODELS = ("/v1/models", "/models")
METRICS = "/metrics"
PUBLIC = frozenset({METRICS, *HEALTH})
METRICS_FIELDS = b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"


class Answering(ExchangeGateway, Protocol):
    """The gateway, which knows what is asked of it."""

    public_metrics: bool

    def facts(self) -> Iterable[ServerFacts]:
        """All servers, as they are known."""


def is_public(gateway: Answering, head: RequestHead) -> bool:
    """Is it answered without a key, as load balancers, Prometheus and browsers' preflights are?"""
    if head.method == "OPTIONS":
        return is_preflight(head) and gateway.door.shows_refusals(head.text(b"origin"))
    return head.path in HEALTH or (head.path == METRICS and gateway.public_metrics)


def is_preflight(head: RequestHead) -> bool:
    return head.method == "OPTIONS" and b"access-control-request-method" in head.noted


def is_ours(head: RequestHead) -> bool:
    if head.method not in ("GET", "HEAD"):
        return False
    return head.path in (METRICS, *HEALTH) or head.path in MODELS or head.path.startswith("/v1/models/")


def answer(gateway: Answering, exchange: Exchange, policy: KeyPolicy | None = None) -> None:
    """Answer a request that `is_ours` or `is_public`. `policy`: of its API key."""
    head = exchange.head
    if head.method == "OPTIONS":
        exchange.answer_ourselves(204, _preflight_fields(exchange), b"")
    elif head.path == METRICS:
        exchange.answer_takes_time()
        gateway.track_task(asyncio.ensure_future(_answer_metrics(gateway, exchange)))
    elif head.path in HEALTH:
        _send(exchange, _health(gateway))
    elif gateway.may_hear_of_models:
        exchange.answer_takes_time()
        exchange.do(_answer_models_anew(gateway, exchange, policy))
    else:
        _answer_models(gateway, exchange, policy)


async def _answer_models_anew(gateway: Answering, exchange: Exchange, policy: KeyPolicy | None) -> None:
    """Ask routers first, whose models change unannounced."""
    await gateway.outside.read_models(reload=_asks_to_reload(exchange.head))
    if not exchange.is_over:
        _answer_models(gateway, exchange, policy)


def _asks_to_reload(head: RequestHead) -> bool:
    return parse_qs(head.query).get("reload", ["0"])[-1] not in ("0", "false")


def _answer_models(gateway: Answering, exchange: Exchange, policy: KeyPolicy | None) -> None:
    if exchange.head.path in MODELS:
        _send(exchange, catalogue(gateway.facts(), policy, gateway.wall_time()))
    else:
        _send_model(gateway, exchange, exchange.head.path.removeprefix("/v1/models/"), policy)


def _send(exchange: Exchange, data: Any) -> None:
    exchange.answer_ourselves(
        200, JSON_FIELDS + cors_fields(exchange.answer.origin), json.dumps(data).encode()
    )


def _send_model(gateway: Answering, exchange: Exchange, model: str, policy: KeyPolicy | None) -> None:
    """Describe a model by any of its names, as the server has it that can be asked soonest."""
    servers = [
        facts for facts in gateway.facts() if serves(facts, model) and may_use(policy, facts, Hints(model))
    ]
    offered = offers(gateway.facts(), policy)
    if servers:
        servers.sort(key=lambda facts: (rank(facts), facts.name))
        first = servers[0]
        names = (name for name, having in offered.items() if first in having and name not in first.presets)
        usual = next(names, first.name)
        _send(exchange, entry(usual if is_path(model) else model, servers, gateway.wall_time()))
    else:
        exchange.refuse(problems.model_not_found(model, list(offered)))


def _health(gateway: Answering) -> dict[str, Any]:
    """Answer that all is well: a server that is down is waited for, so requests may be sent here."""
    servers = list(gateway.facts())
    return {"status": "ok", "servers": len(servers), "ready": sum(facts.ready for facts in servers)}


def _preflight_fields(exchange: Exchange) -> bytes:
    asked = exchange.head.text(b"access-control-request-headers") or "*"
    return (
        cors_fields(exchange.answer.origin)
        + _credentials(exchange)
        + (
            "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE\r\n"
            f"Access-Control-Allow-Headers: {asked}\r\nAccess-Control-Max-Age: 600\r\n"
        ).encode("latin-1")
    )


def _credentials(exchange: Exchange) -> bytes:
    """Allow credentials only to origins that people have let in; llama-server allows them to all."""
    return b"Access-Control-Allow-Credentials: true\r\n" if exchange.answer.is_known_origin else b""


async def _answer_metrics(gateway: Answering, exchange: Exchange) -> None:
    try:
        content = await gateway.outside.metrics()
    except Exception:  # any mistake: a scrape is answered, and no request in flight notices
        log.exception("❌ [GATEWAY] Metrics cannot be told. %s.", MISTAKE)
        exchange.refuse(problems.metrics_failed())
        return
    if not exchange.is_over:
        exchange.answer_ourselves(200, METRICS_FIELDS, content)
