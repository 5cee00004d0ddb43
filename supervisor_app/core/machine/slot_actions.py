"""Actions on the slots of a llama-server: which there are, save one, restore one. Blocking.

Observed of b11669: the folder is that of `--slot-save-path`, which must exist at the start. A name with a
separator is refused (400); a server without the flag answers 501. An action on a busy slot waits until the
slot is idle. A number beyond the last slot is taken modulo. An empty slot is saved in 36 to 40 bytes. A file
of another number of streams, for a larger context, or cut off is refused (400).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from supervisor_app.core.context.rules import SlotSeen
from supervisor_app.core.machine.probe import NETWORK_ERRORS, get, post
from supervisor_app.core.shortage import raise_shortage

if TYPE_CHECKING:
    from supervisor_app.core.machine.probe import Response
    from supervisor_app.core.spec import LaunchSpec

LONGEST_REASON = 200
"""Characters of what the engine says."""


class SlotActionError(Exception):
    """The engine did not do it; the message says why, as part of a sentence."""


def read_props(spec: LaunchSpec, timeout: float) -> dict[str, Any]:
    """Read what the server says of itself. Raises SlotActionError, ShortageError."""
    props = _answer(spec, "/props", timeout).json()
    if not isinstance(props, dict):
        raise SlotActionError("llama-server does not tell its build (/props)")
    return props


def read_slots(spec: LaunchSpec, timeout: float) -> list[SlotSeen]:
    """Read the slots. A server that sleeps is woken by that. Raises SlotActionError, ShortageError."""
    slots = _answer(spec, "/slots", timeout).json()
    if not isinstance(slots, list):
        raise SlotActionError("llama-server does not tell its slots")
    return [
        SlotSeen(
            id=number,
            busy=bool(slot.get("is_processing")),
            tokens=_number(slot, "n_prompt_tokens"),
            task=_number(slot, "id_task") or 0,
        )
        for slot in slots
        if isinstance(slot, dict) and (number := _number(slot, "id")) is not None
    ]


def save_slot(spec: LaunchSpec, slot: int, file: str, timeout: float) -> tuple[int, int]:
    """Save a slot. Return its tokens and the bytes of its file. Raises SlotActionError, ShortageError."""
    told = _act(spec, slot, "save", file, timeout)
    return _number(told, "n_saved") or 0, _number(told, "n_written") or 0


def restore_slot(spec: LaunchSpec, slot: int, file: str, timeout: float) -> int:
    """Restore a slot. Return its tokens. Raises SlotActionError, ShortageError."""
    return _number(_act(spec, slot, "restore", file, timeout), "n_restored") or 0


def _act(spec: LaunchSpec, slot: int, action: str, file: str, timeout: float) -> dict[str, Any]:
    path = f"/slots/{slot}?action={action}"
    told = _answer(spec, path, timeout, {"filename": file}).json()
    if not isinstance(told, dict):
        raise SlotActionError(f"llama-server did not say what became of it ({path})")
    return told


def _answer(spec: LaunchSpec, path: str, timeout: float, body: dict[str, Any] | None = None) -> Response:
    try:
        said = get(spec, path, timeout) if body is None else post(spec, path, timeout, body)
    except TimeoutError as error:
        raise SlotActionError("llama-server took too long") from error
    except NETWORK_ERRORS as error:
        raise_shortage(error)
        raise SlotActionError(f"llama-server did not answer ({type(error).__name__})") from error
    if said.status != HTTPStatus.OK:
        raise SlotActionError(f"llama-server answered {said.status}{_reason(said.json())}")
    return said


def _reason(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return f" ({message[:LONGEST_REASON].rstrip('.')})" if isinstance(message, str) and message else ""


def _number(body: dict[str, Any], key: str) -> int | None:
    value = body.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
