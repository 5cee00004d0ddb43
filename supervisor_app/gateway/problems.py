"""The gateway's own errors: why a request fails, in words for people and a code for programs.

Below every room that refuses requests: an error knows of keys and servers only what it has to say of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import msgspec

from supervisor_app.common.words import MISTAKE, span
from supervisor_app.core.status import Status
from supervisor_app.gateway.llama.hints import UNREADABLE
from supervisor_app.gateway.llama.nesting import DEEPEST
from supervisor_app.gateway.problem import Problem, Side

HOST_SILENT = "its host does not answer any more"
"""Reason of a loss: nothing at all comes back from the host of the server."""


class Refusal(Protocol):
    """A decision of `access.keys` not to let a request in."""

    status: int
    code: str
    message: str
    retry_after: int | None
    type: str
    retryable: bool | None


class Server(Protocol):
    """Facts about a server, as far as errors quote them."""

    @property
    def name(self) -> str: ...
    @property
    def status(self) -> Status: ...
    @property
    def detail(self) -> str: ...
    @property
    def hold_seconds(self) -> float: ...
    @property
    def hopeless(self) -> bool: ...
    @property
    def does_not_fit(self) -> bool: ...
    @property
    def why_hopeless(self) -> str: ...
    @property
    def away(self) -> bool: ...


def bad_request(message: str, *, status: int = 400, code: str = "bad_request") -> Problem:
    return Problem(status=status, code=code, message=message, fault=Side.CLIENT)


def restarting() -> Problem:
    return Problem(
        status=503,
        code="gateway_stopping",
        message="The gateway is being restarted. Ask again.",
        fault=Side.GATEWAY,
        retry_after=1,
        retryable=True,
    )


def body_too_large() -> Problem:
    return bad_request("The body is too large.", status=413, code="body_too_large")


def too_deep() -> Problem:
    return bad_request(
        f"The JSON of this request is nested deeper than {DEEPEST} levels, which can crash llama-server. "
        "Flatten it, a JSON schema by $ref.",
        code="nested_too_deep",
    )


def preset_impossible(preset: str, server: str, reason: str) -> Problem:
    """Refuse a request that a preset cannot change. `reason`: a sentence after the preset's name."""
    return bad_request(
        f"The preset {preset} {reason}, or ask for {server}, which changes nothing.", code="preset_impossible"
    )


def denied(reason: Refusal) -> Problem:
    return Problem(
        status=reason.status,
        code=reason.code,
        message=reason.message,
        fault=Side.CLIENT,
        retry_after=reason.retry_after,
        type=reason.type,
        retryable=reason.retryable,
    )


def model_not_found(model: str, known: list[str]) -> Problem:
    message = f"The model {model!r} does not exist here." if model else "Name a model."
    message += f" There is: {', '.join(known)}." if known else " No server is configured yet."
    return Problem(status=404, code="model_not_found", message=message, fault=Side.CLIENT)


def makes_no_text(server: str, flag: str) -> Problem:
    """Refuse a question for text that may crash the server. `flag`: with which the server was started."""
    return bad_request(
        f"{server} was started with {flag}, so it makes no text. Ask it for embeddings, or another model.",
        code="makes_no_text",
    )


def no_room() -> Problem:
    return Problem(
        status=503,
        code="server_unavailable",
        message="There is no room to keep so long a body until its `model` is known. Put `model` before what "
        "is long in it, add `?model=`, or ask again later.",
        fault=Side.GATEWAY,
        retry_after=5,
    )


def _who_wait(number: int) -> str:
    return {0: "Nobody may wait", 1: "1 request waits"}.get(number, f"{number} requests wait")


def queue_full(name: str, waiting: int, retry_after: int) -> Problem:
    return Problem(
        status=429,
        code="queue_full",
        message=f"{_who_wait(waiting)} for {name}{' already' if waiting else ''}.",
        fault=Side.CLIENT,
        retry_after=retry_after,
    )


def not_isolated(name: str, reason: str) -> Problem:
    return Problem(
        status=403,
        code="cache_not_isolated",
        message=f"An API key isolates its prompts at {name}, so nobody is served from the cache there. "
        f"{reason}. Ask another path, or another server, or start this one with --no-cache-prompt.",
        fault=Side.CLIENT,
    )


def too_many_connections() -> Problem:
    return Problem(
        status=429,
        code="too_many_connections",
        message="So many connections of this client are open that others would find none. Use each again "
        "instead of opening a new one.",
        fault=Side.CLIENT,
        retry_after=1,
    )


def unavailable(facts: Server, retry_after: int, *, lasting: bool) -> Problem:
    """Waiting is hopeless, for the supervisor's own reason. `lasting`: only a person can end that."""
    return Problem(
        status=503,
        code="does_not_fit" if facts.does_not_fit else "server_unavailable",
        message=f"{facts.name}: {facts.why_hopeless}",
        fault=Side.SERVER,
        retry_after=retry_after,
        retryable=False if lasting else None,
    )


def not_ready(facts: Server, retry_after: int, *, to_strangers: bool) -> Problem:
    message = "The server is not ready." if to_strangers else f"{facts.name}: {facts.detail}"
    return Problem(
        status=503,
        code="server_unavailable",
        message=message,
        fault=Side.SERVER,
        retry_after=retry_after,
    )


def hold_timeout(facts: Server, retry_after: int) -> Problem:
    """The request has waited for as long as it may."""
    message = f"{facts.name}: Not ready within {span(facts.hold_seconds)}. {facts.detail}"
    return Problem(
        status=503, code="hold_timeout", message=message, fault=Side.SERVER, retry_after=retry_after
    )


def _names_of(run_name: str) -> dict[str, Any]:
    """Fields that name a crash by its run: `run`, a number that has a page, and `incident`, the older field.

    A server without a supervisor of ours has no numbered runs: there `incident` says `pid N`.
    """
    run = {"run": int(run_name)} if run_name.isdecimal() else {}
    return {**run, "incident": run_name}


def upstream_crashed(
    facts: Server,
    reason: str,
    *,
    run_name: str,
    tokens: int | None = None,
    survived: bool = False,
    done_perhaps: bool = False,
) -> Problem:
    """The server died under this request.

    `run_name`: see `Loss`; `tokens`: how many had been passed on; `survived`: the server did not die;
    `done_perhaps`: the request changes something, perhaps it did so before the server died.
    """
    more = _names_of(run_name)
    if tokens is not None:
        more["tokens_so_far"] = tokens
    if done_perhaps:
        what = "died while answering. It may have done what was asked, so look before you send it again"
    elif survived:
        what = "broke off while answering: send it again"
    elif facts.away or reason == HOST_SILENT:
        what = "was lost with its host while answering: send it again"
    elif facts.hopeless:
        what = "ended while answering and is not being restarted"
    else:
        verb = "was stopped" if facts.status is Status.STOPPING else "died"
        what = f"{verb} while answering and is being restarted: send it again"
    return Problem(
        status=502,
        code="upstream_crashed",
        message=f"{facts.name} {what}. It ended before its answer was whole: {reason.rstrip('.')}.",
        fault=Side.SERVER,
        retryable=not done_perhaps and (survived or not facts.hopeless),
        more=more,
    )


def upstream_error(status: int, content: bytes) -> Problem:
    """An error of the server, whose whole body is `content`, for a client that was told 200 before."""
    message = f"The server answered {status}."
    problem = Problem(
        status=status if status >= 400 else 502,
        code="upstream_error",
        message=message,
        fault=Side.CLIENT if 400 <= status < 500 else Side.SERVER,
    )
    try:
        told = msgspec.json.decode(content)["error"]
        message, kind = told.pop("message"), told.pop("type", "")
    except (*UNREADABLE, KeyError, TypeError, AttributeError):
        return problem
    more = {key: value for key, value in told.items() if key not in ("code", "param", "retryable")}
    return replace(problem, message=str(message), type=kind if isinstance(kind, str) else "", more=more)


def mistake() -> Problem:
    message = f"{MISTAKE}: the console says more."
    return Problem(status=500, code="internal_error", message=message, fault=Side.GATEWAY)


def metrics_failed() -> Problem:
    message = "The metrics cannot be told: the console says why."
    return Problem(status=500, code="metrics_failed", message=message, fault=Side.GATEWAY)


def cancelled() -> Problem:
    return Problem(
        status=403,
        code="cancelled_by_staff",
        message="Somebody who looks after this service has cancelled the request.",
        fault=Side.CLIENT,
        retryable=False,
    )


def quarantined(name: str, run_name: str, seconds: int) -> Problem:
    pause = span(60 * max(1, round(seconds / 60)))
    named = f"run {run_name}" if run_name.isdecimal() else run_name
    return Problem(
        status=422,
        code="quarantined",
        message=f"{name} died each time it was asked this ({named}), so it is not "
        f"asked again for {pause}. Change the request, or have it released on the "
        "server's page.",
        fault=Side.CLIENT,
        more=_names_of(run_name),
    )
