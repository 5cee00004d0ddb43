"""Questions to a llama-server: /health, its models, its slots, one token.

Blocking `http.client` in threads, never in the event loop, but for the question that is asked every second
(`machine.health`).

A question that could not be asked for want of our own (descriptors, threads, ports) raises ShortageError.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from supervisor_app.core.machine import sock_diag
from supervisor_app.core.machine.health import ask_health, health_of
from supervisor_app.core.machine.lanes import Lane
from supervisor_app.core.machine.model_files import UNKNOWN_FILE, FileFacts, file_facts
from supervisor_app.core.machine.slot_sight import decoded_of, slot_of
from supervisor_app.core.machine.sockets import stranger_at, stranger_behind
from supervisor_app.core.ports import ProbeError
from supervisor_app.core.shortage import LateError, ShortageError, raise_shortage
from supervisor_app.core.sightings import Canary, Health, Slots
from supervisor_app.core.status import AVAILABLE, Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.core.spec import LaunchSpec

RECOGNISE_TIMEOUT = 2.0
"""Seconds for a stranger on our port to show that it is a llama-server."""
MAX_BODY = 4 * 1024 * 1024
"""Bytes of a model list; a router with a thousand models sends about 1 MB."""
HEALTH = "/health"
HEALTHY = {"status": "ok"}
LOADING = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
ONE_TOKEN = {"prompt": "Hi", "n_predict": 1, "cache_prompt": False}
QUESTIONS = 2
"""A look asks so many at most, one after the other, each with its own timeout."""
SPARE_SECONDS = 1.0
FILE_SECONDS = 2.0
"""Time for the disk of a model to tell the size of its file."""
T = TypeVar("T")


class HttpProbe:
    """`core.ports.Probe` over HTTP, a fresh connection each time: a pooled one would outlive its server.

    Threads for each server, because one that hangs, or dribbles its answer, keeps some of them busy.
    """

    def __init__(self) -> None:
        self._lanes: defaultdict[str, Lane] = defaultdict(lambda: Lane("probe"))
        self._canaries: defaultdict[str, Lane] = defaultdict(lambda: Lane("canary"))
        """Lanes of their own for canaries, which may wait for minutes."""
        self._files: defaultdict[str, Lane] = defaultdict(lambda: Lane("the model's disk"))
        self._kernel_tells = False
        """The kernel has told whose a socket is, and goes on to."""

    async def health(self, spec: LaunchSpec, timeout: float) -> Health:  # noqa: ASYNC109
        if spec.endpoint is not None and self._does_kernel_tell():
            return await ask_health(spec.endpoint, timeout)
        try:
            return await self._ask(spec, timeout, check_health)
        except LateError:  # `timeout` is for each byte
            return Health.SILENT

    async def models(self, spec: LaunchSpec, timeout: float) -> tuple[Model, ...]:  # noqa: ASYNC109
        try:
            facts = await self._files[spec.url].run(file_facts, spec, patience=FILE_SECONDS)
        except ShortageError:  # the server has its model, whatever has become of the disk since
            facts = UNKNOWN_FILE
        try:
            return await self._ask(spec, timeout, partial(read_models, facts=facts))
        except LateError as error:
            raise ProbeError("they did not come to an end") from error

    async def running_model(self, spec: LaunchSpec, timeout: float) -> str:  # noqa: ASYNC109
        try:
            return await self._ask(spec, timeout, read_running_model)
        except LateError:
            return ""

    async def slots(self, spec: LaunchSpec, timeout: float, *, may_wake: bool) -> Slots:  # noqa: ASYNC109
        try:
            return await self._ask(spec, timeout, partial(read_slots, may_wake=may_wake))
        except LateError:
            return Slots(answered=False)

    async def canary(self, spec: LaunchSpec, timeout: float) -> Canary:  # noqa: ASYNC109
        return await self._canaries[spec.url].run(send_canary, spec, timeout, patience=inf)

    def _does_kernel_tell(self) -> bool:
        self._kernel_tells = self._kernel_tells or sock_diag.answers()
        return self._kernel_tells

    def close(self) -> None:
        """Close without waiting for a question that hangs."""
        for lane in (*self._lanes.values(), *self._canaries.values(), *self._files.values()):
            lane.close()

    async def _ask(self, spec: LaunchSpec, timeout: float, ask: Callable[[LaunchSpec, float], T]) -> T:  # noqa: ASYNC109
        return await self._lanes[spec.url].run(
            ask, spec, timeout, patience=timeout * QUESTIONS + SPARE_SECONDS
        )


@dataclass(frozen=True)
class Response:
    status: int
    server: str
    """The Server header."""
    body: bytes

    def json(self) -> Any:
        """Parse the answer; None when it is not JSON, or nested beyond reason."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


def get(spec: LaunchSpec, path: str, timeout: float) -> Response:
    """`timeout` in seconds, for each byte. Raises NETWORK_ERRORS."""
    return _ask("GET", spec, path, timeout)


def post(spec: LaunchSpec, path: str, timeout: float, body: dict[str, Any]) -> Response:
    """`timeout` in seconds, for each byte. Raises NETWORK_ERRORS."""
    return _ask("POST", spec, path, timeout, body)


class StrangerError(ConnectionRefusedError):
    """Another process listens where the server was: to us that is nobody."""


class _Connection(http.client.HTTPConnection):
    """Speaks to the process that was proved to listen there, or to none."""

    def __init__(self, spec: LaunchSpec, timeout: float) -> None:
        endpoint = spec.endpoint
        super().__init__(endpoint.address if endpoint else spec.probe_host, spec.port, timeout=timeout)
        self._endpoint = endpoint

    def connect(self) -> None:
        endpoint = self._endpoint
        stranger = stranger_at(endpoint) if endpoint else ""
        if not stranger:
            super().connect()
            if endpoint and endpoint.uid is not None:
                stranger = stranger_behind(self.sock, endpoint.uid)
        if stranger:
            self.close()
            raise StrangerError(errno.ECONNREFUSED, stranger)


def _ask(
    method: str, spec: LaunchSpec, path: str, timeout: float, body: dict[str, Any] | None = None
) -> Response:
    """Raises NETWORK_ERRORS. The key goes only to a proved address, and not to /health, which is public."""
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if spec.api_key and spec.endpoint is not None and path != HEALTH:
        headers["Authorization"] = f"Bearer {spec.api_key}"
    sent = None if body is None else json.dumps(body).encode()
    with contextlib.closing(_Connection(spec, timeout)) as connection:
        connection.request(method, path, sent, headers)
        response = connection.getresponse()
        said = response.read(MAX_BODY)
        if response.length and len(said) < MAX_BODY:
            raise http.client.IncompleteRead(said, response.length)
        return Response(response.status, response.headers.get("Server", ""), said)


NETWORK_ERRORS = (http.client.HTTPException, OSError, ValueError)


def check_health(spec: LaunchSpec, timeout: float) -> Health:
    """`timeout` in seconds. Raises ShortageError."""
    try:
        reply = get(spec, HEALTH, timeout)
    except ConnectionRefusedError:
        return Health.REFUSED
    except NETWORK_ERRORS as error:
        raise_shortage(error)
        return Health.SILENT
    return health_of(reply.status)


def looks_like_llama_server(spec: LaunchSpec, timeout: float = RECOGNISE_TIMEOUT) -> bool | None:
    """Does whoever listens there answer /health as llama-server does? None: it does not answer at all.

    Raises ShortageError.
    """
    try:
        reply = get(spec, HEALTH, timeout)
    except OSError as error:
        raise_shortage(error)
        return None
    except NETWORK_ERRORS:
        return False
    return reply.server.startswith("llama.cpp") or (
        reply.status in (200, 503) and reply.json() in (HEALTHY, LOADING)
    )


def read_models(spec: LaunchSpec, timeout: float, *, facts: FileFacts | None = None) -> tuple[Model, ...]:
    """Read the models of a server, from the first list that it answers. Raises ProbeError, ShortageError.

    `facts` of its model's file; None: they are looked up here.
    """
    facts = file_facts(spec) if facts is None else facts
    problem = ""
    for path in ("/api/models", "/v1/models"):
        try:
            reply = get(spec, path, timeout)
        except NETWORK_ERRORS as error:
            raise_shortage(error)
            raise ProbeError(f"{path} did not answer: {type(error).__name__}") from error
        if reply.status == HTTPStatus.OK:
            entries = _entries(reply.json())
            if entries is not None:
                return tuple(_model(entry, facts) for entry in entries)
            problem = f"{path} answered something that is not a model list"
        else:
            problem = f"{path} answered {reply.status}"
    raise ProbeError(problem)


def read_running_model(spec: LaunchSpec, timeout: float) -> str:
    """The model's path as the server says it; empty when it does not. Raises ShortageError."""
    try:
        props = get(spec, "/props", timeout).json()
    except NETWORK_ERRORS as error:
        raise_shortage(error)
        return ""
    path = props.get("model_path") if isinstance(props, dict) else None
    return path if isinstance(path, str) else ""


def _entries(body: Any) -> list[dict[str, Any]] | None:
    """OpenAI's `data` (real servers), else the `models` of the /api/models contract."""
    if isinstance(body, dict):
        for key in ("data", "models"):
            if isinstance(body.get(key), list):
                return [entry for entry in body[key] if isinstance(entry, dict)]
    return None


def _model(entry: dict[str, Any], facts: FileFacts) -> Model:
    raw_id = entry.get("id") or entry.get("name") or entry.get("model") or "unknown"
    identifier = str(raw_id)
    meta = entry.get("meta")
    # Size and time are the file's: the server has no time, and its size leaves out the header.
    size = facts.size or entry.get("size") or (meta.get("size") if isinstance(meta, dict) else None)
    modified = facts.modified_at or entry.get("modified_at")
    status = entry.get("status")
    value = status.get("value") if isinstance(status, dict) else status
    return Model(
        id=identifier,
        name=Path(identifier).name or identifier,
        size=size if isinstance(size, int) and size > 0 else None,
        type=str(entry.get("type") or "llama"),
        modified_at=modified if isinstance(modified, int) and modified > 0 else None,
        status=str(value) if value else AVAILABLE,
    )


def read_slots(spec: LaunchSpec, timeout: float, *, may_wake: bool) -> Slots:
    """A server that does not tell its slots (501, 404, 401, router mode) counts as idle: nothing to judge."""
    try:
        if not may_wake and _is_sleeping(spec, timeout):
            return Slots(answered=True)
        reply = get(spec, "/slots", timeout)
    except NETWORK_ERRORS as error:
        raise_shortage(error)
        return Slots(answered=False)
    slots = reply.json() if reply.status == HTTPStatus.OK else None
    if not isinstance(slots, list):
        return Slots(answered=True)
    busy = [slot for slot in slots if isinstance(slot, dict) and slot.get("is_processing")]
    mark = tuple(_mark(slot) for slot in busy)
    each = tuple(slot_of(slot) for slot in slots if isinstance(slot, dict))
    return Slots(answered=True, busy=bool(busy), mark=mark, working=len(busy), total=len(slots), each=each)


def _is_sleeping(spec: LaunchSpec, timeout: float) -> bool:
    """/props neither wakes a server nor keeps it awake, /slots does both."""
    props = get(spec, "/props", timeout).json()
    return isinstance(props, dict) and props.get("is_sleeping") is True


def _mark(slot: dict[str, Any]) -> tuple[Any, ...]:
    return (slot.get("id"), slot.get("id_task"), slot.get("n_prompt_tokens_processed"), decoded_of(slot))


def send_canary(spec: LaunchSpec, timeout: float) -> Canary:
    """Ask for one token, where that can do no harm. `timeout` in seconds, for each of the questions.

    Raises ShortageError.
    """
    try:
        if _is_sleeping(spec, timeout):
            return Canary.FINE
        # A server that embeds may crash when it is asked for text (b11669 with pooling "none" does). Only the
        # others say 501 here, or 404 where there is no such thing; a router wants a model's name first.
        embeds = post(spec, "/embedding", timeout, {}).status
        if embeds not in (HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED):
            return Canary.UNSUPPORTED if embeds < 500 else Canary.FINE
        status = post(spec, "/completion", timeout, ONE_TOKEN).status
    except TimeoutError:
        return Canary.SILENT
    except NETWORK_ERRORS as error:
        raise_shortage(error)
        return Canary.FINE
    refused = 400 <= status < 500 or status == HTTPStatus.NOT_IMPLEMENTED
    return Canary.UNSUPPORTED if refused else Canary.FINE
