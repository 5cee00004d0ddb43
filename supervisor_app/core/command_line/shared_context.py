"""The context that the slots of a server share, or have each of their own. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from supervisor_app.core.command_line.argv import spelled_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor_app.core.sightings import Slot

_COUNTS = {
    **dict.fromkeys(("-c", "--ctx-size", "LLAMA_ARG_CTX_SIZE"), "size"),
    **dict.fromkeys(("-np", "--parallel", "LLAMA_ARG_N_PARALLEL"), "slots"),
    **dict.fromkeys(("--kv-unified-per-slot", "LLAMA_ARG_KV_UNIFIED_PER_SLOT"), "each"),
}
_SWITCHES = {
    **dict.fromkeys(("-kvu", "--kv-unified"), True),
    **dict.fromkeys(("-no-kvu", "--no-kv-unified"), False),
}
_SWITCH, _OFF_SWITCH = "LLAMA_ARG_KV_UNIFIED", "LLAMA_ARG_NO_KV_UNIFIED"
_ON = frozenset({"on", "enabled", "true", "1"})


@dataclass(frozen=True, kw_only=True)
class ContextFlags:
    """Flags that say how the slots use the context. Tokens and slots; 0: llama-server chooses."""

    slots: int = 0
    size: int = 0
    each: int = 0
    """Most that one slot may have of a context that is shared."""
    unified: bool = False

    @property
    def is_shared(self) -> bool:
        """Is there one context for all slots? Where llama-server chooses their number it shares, always.

        See `llama_server` in tools/server/server.cpp: it overrides `-no-kvu` then.
        """
        return self.unified or self.slots == 0

    def told_of(self, slots: Sequence[Slot]) -> tuple[Slot, ...]:
        """Return the slots with the size of the context that they share."""
        if not self.is_shared or len(slots) < 2:
            return tuple(slots)
        sizes = [slot.size for slot in slots]
        # Each is told as large as the whole, unless a flag or the training of its model allows it less.
        limited = sum(sizes)
        whole = limited if self.each and not self.size else min(limited, max(self.size, *sizes))
        return tuple(replace(slot, shared=whole) for slot in slots)


def context_flags(args: Sequence[str], environment: Mapping[str, str]) -> ContextFlags:
    """Read them as llama-server does: variables first, then the flags, of which the last one counts."""
    said: dict[str, Any] = {
        _COUNTS[name]: _count(environment[name]) for name in _COUNTS if name in environment
    }
    said["unified"] = environment.get(_SWITCH) in _ON and _OFF_SWITCH not in environment
    words = iter(spelled_out(args))
    for word in words:
        if word in _SWITCHES:
            said["unified"] = _SWITCHES[word]
        elif word in _COUNTS:
            said[_COUNTS[word]] = _count(next(words, ""))
    return ContextFlags(**said)


def _count(word: str) -> int:
    """Return 0 also for a value that llama-server would refuse: no process runs with that."""
    return int(word) if word.isascii() and word.isdigit() else 0
