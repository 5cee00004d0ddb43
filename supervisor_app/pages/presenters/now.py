"""Slots of a server, joined with the requests of the gateways, and its figures, in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from supervisor_app.common.words import size
from supervisor_app.core.devices import HOST
from supervisor_app.fleet.sample_rules import MEMORY, OF_ANSWERS
from supervisor_app.gateway.records.in_flight import InFlight, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from supervisor_app.fleet.sample_rules import Figures

AT_SERVER = frozenset({Phase.SENT, Phase.PREFILL, Phase.GENERATING})
"""Phases in which a request has a slot, or is about to get one."""


@dataclass(frozen=True, slots=True)
class SlotRow:
    """A slot, or a request that has none yet or whose slot nobody knows."""

    id: str
    """Number of the slot; empty: not known."""
    phase: str
    tone: str
    remark: str
    """`43 % of the prompt`, `812 tokens`."""
    context: str
    """`512 of 2048`, `512 of 2048, shared` with the other slots; empty: not known."""
    request: InFlight | None
    speed: str


def slot_rows(slots: Sequence[Mapping[str, Any]], requests: Iterable[InFlight]) -> list[SlotRow]:
    """Join the slots with the requests at the server.

    Neither of them names the other. Tasks are numbered as they come, so the oldest task is the oldest
    request, as far as both have been seen: a look at slots is up to two seconds old.
    """
    flying = sorted((each for each in requests if each.phase in AT_SERVER), key=lambda each: each.at)
    working = sorted((slot for slot in slots if slot["works"]), key=lambda slot: slot["task"] or 0)
    of_slot = {slot["id"]: request for slot, request in zip(working, flying, strict=False)}
    rows = [_slot_row(slot, of_slot.get(slot["id"])) for slot in sorted(slots, key=lambda slot: slot["id"])]
    return rows + [_request_row(request) for request in flying[len(working) :]]


def _slot_row(slot: Mapping[str, Any], request: InFlight | None) -> SlotRow:
    phase, tone, remark = _("Idle"), "calm", ""
    if slot["works"]:
        tone = "up"
        tokens = max(slot["decoded"], (request.tokens or 0) if request else 0)
        share = request.prefill if request else None
        phase, remark = _progress(tokens, share, slot["cached"] + slot["processed"])
    return SlotRow(
        id=str(slot["id"]),
        phase=phase,
        tone=tone,
        remark=remark,
        context=_context(slot),
        request=request,
        speed=_speed(request),
    )


def _context(slot: Mapping[str, Any]) -> str:
    if shared := slot.get("shared"):  # a supervisor of an older version does not say it
        return _("%(used)s of %(size)s, shared") % {"used": slot["used"], "size": shared}
    return _("%(used)s of %(size)s") % {"used": slot["used"], "size": slot["size"]} if slot["size"] else ""


def _request_row(request: InFlight) -> SlotRow:
    if request.phase is Phase.SENT:
        phase, remark = _("Computing"), _("the answer comes whole")
    else:
        phase, remark = _progress(request.tokens or 0, request.prefill, 0)
    return SlotRow(
        id="", phase=phase, tone="up", remark=remark, context="", request=request, speed=_speed(request)
    )


def _progress(tokens: int, share: float | None, read: int) -> tuple[str, str]:
    """The phase and how far it is. The engine does not say how long a prompt is: some clients ask it to."""
    if tokens:
        return _("Generating"), ngettext("%(count)s token", "%(count)s tokens", tokens) % {"count": tokens}
    if share is not None:
        return _("Prefill"), _("%(percent)s % of the prompt").replace("%(percent)s", f"{share:.0%}"[:-1])
    if not read:
        return _("Prefill"), ""
    return _("Prefill"), ngettext("%(count)s token read", "%(count)s tokens read", read) % {"count": read}


def _speed(request: InFlight | None) -> str:
    speed = request.tokens_per_second if request else None
    return "" if speed is None else rate(speed)


# --- Figures -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its name, in words."""

    name: str
    value: str
    remark: str = ""


def rate(speed: float) -> str:
    """`41/s`, `4.1/s`."""
    return f"{speed:.0f}/s" if speed >= 9.95 or not speed else f"{speed:.1f}/s"


def latest(samples: Sequence[tuple[int, Figures]]) -> Figures:
    """Return the newest figures of some minutes; of answers, the mean of the seconds in which one ended."""
    if not samples:
        return {}
    newest = {name: value for name, value in samples[-1][1].items() if name not in OF_ANSWERS}
    for name in OF_ANSWERS:
        if known := [figures[name] for _at, figures in samples if name in figures]:
            newest[name] = sum(known) / len(known)
    return newest


def figures_in_words(known: Mapping[str, float], devices: Mapping[str, str]) -> list[Figure]:
    """Put figures into words, in the order of the page; those that nobody knows are left out.

    `devices`: names by `Device.id`.
    """
    told: list[tuple[str, str, Callable[[float], str]]] = [
        ("generated", _("Generated"), lambda value: _("%(rate)s tokens") % {"rate": rate(value)}),
        ("prefilled", _("Prompts read"), lambda value: _("%(rate)s tokens") % {"rate": rate(value)}),
        ("ttft", _("First token"), milliseconds),
        ("itl", _("Between tokens"), milliseconds),
        ("cached", _("From the cache"), percent),
        ("context", _("Context in use"), lambda value: _in_use(value, known.get("context_size", 0))),
        ("cpu", _("CPU"), lambda value: _("%(count)s cores") % {"count": f"{value:.1f}"}),
    ]
    found = [Figure(name, say(known[key])) for key, name, say in told if key in known]
    memory = in_order(key for key in known if key.startswith(MEMORY))
    return found + [Figure(memory_name(key, devices), size(round(known[key]))) for key in memory]


def in_order(memory: Iterable[str]) -> list[str]:
    """Put figures of memory in order: the host's first."""
    return sorted(memory, key=lambda key: (not key.endswith(HOST), key))


def memory_name(key: str, devices: Mapping[str, str]) -> str:
    """Name a figure of memory for people."""
    device = key.removeprefix(MEMORY)
    return (
        _("Memory") if device == HOST else _("Memory, %(device)s") % {"device": devices.get(device, device)}
    )


def milliseconds(value: float) -> str:
    """`82 ms`, `1.4 s`."""
    return (
        f"{value:.0f} ms"
        if value >= 9.95 and value < 999.5
        else f"{value:.1f} ms"
        if value < 9.95
        else f"{value / 1000:.1f} s"
    )


def percent(value: float) -> str:
    """`25 %`."""
    return f"{100 * value:.0f} %"


def _in_use(used: float, total: float) -> str:
    if not total:
        return _("%(used)s tokens") % {"used": round(used)}
    share = percent(used / total)
    return _("%(used)s of %(size)s tokens, %(share)s") % {
        "used": round(used),
        "size": round(total),
        "share": share,
    }
