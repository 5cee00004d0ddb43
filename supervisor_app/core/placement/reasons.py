"""Reasons why a server does not start now, as data and as one sentence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from supervisor_app.common.words import counted, noun, size, told_apart

MOST_NAMES = 4
"""Names in a sentence of those that load; the others are counted."""


class Kind(StrEnum):
    """Obstacle of a start."""

    MEMORY = "memory"
    NODE_LIMIT = "node_limit"
    GROUP_LIMIT = "group_limit"
    LOADS = "loads"
    """Others load, and no more may at a time."""
    STILL_HERE = "still_here"
    """The server's own last process has not ended, or its memory is not back."""
    UNKNOWN_NEED = "unknown_need"
    """A remark: the server loads alone, because nobody knows what it needs."""
    DOUBTED = "doubted"
    """A remark: by an estimate, which may be wrong, the server does not fit, so it is tried."""


class Stay(StrEnum):
    """Why a holder of memory does not go at once."""

    PINNED = "pinned"
    BUSY = "busy"
    LOADING = "loading"
    JUST_LOADED = "just_loaded"
    IN_USE = "in_use"
    """The server's last request has ended a moment ago, and its turn is not over."""
    LEAVING = "leaving"
    IDLE = "idle"
    FIRST = "first"
    """Holds nothing yet: what it needs is kept for it, because its turn is first."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A server that has what another one wants."""

    name: str
    bytes: int
    """Bytes on the device of the reason; 0 where the reason is no device."""
    stay: Stay | None
    """None: that is not told."""
    requests: int = 0


@dataclass(frozen=True, kw_only=True)
class Reason:
    kind: Kind
    name: str
    """The server that does not start."""
    holders: tuple[Holder, ...] = ()
    device: str = ""
    device_name: str = ""
    needed: int = 0
    estimated: bool = False
    """`needed` is an estimate."""
    usable: int = 0
    """Most that the server can have of the device, if it may be less than it needs."""
    free: int = 0
    """Free part of the budget, now."""
    strangers: int = 0
    allowed: int = 0
    """Bytes that people allow all servers together (`budget_mb`); 0: the device itself is the limit."""
    reserve: int = 0
    """Bytes that are left free on the device, if without them it would fit."""
    limit: int = 0
    group: str = ""
    remedy: str = ""
    """Flags with which it would fit."""
    remedy_needed: int = 0
    """Bytes on the device with these flags."""


def sentence(reason: Reason, *, lasting: bool = False) -> str:
    """Return the reason in words: what is needed, what there is, and what would help.

    `lasting`: these are read for a long time, so what the holders do at this moment is left out.
    """
    if lasting:
        reason = replace(reason, holders=tuple(map(_at_any_time, reason.holders)))
    match reason.kind:
        case Kind.MEMORY:
            needed, free = told_apart(reason.needed, reason.free, guess=reason.estimated)
            return f"{_needs(reason, needed)} {_there(reason, free)}{_remedy(reason)}"
        case Kind.NODE_LIMIT:
            return f"`{reason.name}` has no place: {_limit(reason, 'may be loaded at a time (`max_loaded`)')}"
        case Kind.GROUP_LIMIT:
            of_group = f"of the group `{reason.group}` may be loaded at a time"
            return f"`{reason.name}` has no place: {_limit(reason, of_group)}"
        case Kind.LOADS:
            return f"Waits for its turn to load: {_loads(reason)}."
        case Kind.STILL_HERE:
            return f"`{reason.name}` starts once its last process has ended and its memory is back."
        case Kind.UNKNOWN_NEED:
            return f"It is not known yet how much memory `{reason.name}` needs: it loads while no other does."
        case Kind.DOUBTED:
            needed, usable = told_apart(reason.needed, reason.usable, guess=reason.estimated)
            return f"{_needs(reason, needed)} It can have {usable}. Estimates may be wrong: it is tried."
        case never:
            raise AssertionError(never)


def _at_any_time(holder: Holder) -> Holder:
    return holder if holder.stay is Stay.PINNED else replace(holder, stay=None)


def _needs(reason: Reason, needed: str) -> str:
    said = f"about {needed} (estimated)" if reason.estimated else needed
    return f"`{reason.name}` needs {said} on {reason.device_name}."


def _there(reason: Reason, free: str) -> str:
    budget = f" of the {size(reason.allowed)} that `budget_mb` allows" if reason.allowed else ""
    kept = f" beside the {size(reason.reserve)} that `reserve_mb` keeps" if reason.reserve else ""
    others = f", other programs use {size(reason.strangers)}" if reason.strangers else ""
    held = [
        f"`{holder.name}` {'holds ' if number == 0 else ''}{size(holder.bytes)}{_staying(holder)}"
        for number, holder in enumerate(reason.holders)
    ]
    return f"Free are {free}{budget}{kept}{others}{'; ' if held else ''}{', '.join(held)}."


def _remedy(reason: Reason) -> str:
    return f" With `{reason.remedy}` it would fit ({size(reason.remedy_needed)})." if reason.remedy else ""


def _loads(reason: Reason) -> str:
    if not reason.holders:
        loads = noun(reason.limit, "loads", "load")
        return f"{counted(reason.limit, 'server')} {loads} at a time, and others come first"
    now = [holder.name for holder in reason.holders if holder.stay is Stay.LOADING]
    first = [holder.name for holder in reason.holders if holder.stay is not Stay.LOADING]
    said = [f"{_names(now)} {noun(len(now), 'loads', 'load')} now"] if now else []
    said += [f"{_names(first)} {noun(len(first), 'comes', 'come')} first"] if first else []
    return ", ".join(said)


def _names(names: list[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(f"`{name}`" for name in names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _limit(reason: Reason, rule: str) -> str:
    servers = counted(reason.limit, "server")
    return f"{servers} {rule}; there is {_listed(reason.holders)}."


def _listed(holders: tuple[Holder, ...]) -> str:
    return ", ".join(f"`{holder.name}`{_staying(holder)}" for holder in holders)


def _staying(holder: Holder) -> str:
    return f" ({_stay(holder, holder.stay)})" if holder.stay else ""


def _stay(holder: Holder, stay: Stay) -> str:
    match stay:
        case Stay.BUSY:
            return f"busy, {counted(holder.requests, 'request')}"
        case Stay.JUST_LOADED:
            return "just loaded"
        case Stay.IN_USE:
            return "in use"
        case Stay.FIRST:
            return "comes first"
        case _:
            return stay.value
