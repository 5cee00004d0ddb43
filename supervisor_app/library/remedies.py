"""Flags with which a server would need less. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor_app.library.flags import DEFAULT_SLOTS
from supervisor_app.library.shape import shape_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor_app.library.flags import Load
    from supervisor_app.library.model import Model

STEP = 1024
"""Tokens: contexts are told in multiples of it, and no slot gets less."""
HALVINGS = 6
_QUANTIZED = "q8_0"
_PLAIN = frozenset({"f32", "f16", "bf16"})


def remedies(model: Model, load: Load) -> Iterator[tuple[str, Load]]:
    """Yield changes of flags, each with what is loaded then; some of them may save nothing.

    Raises ModelError when the metadata of the model make no sense.
    """
    slots = load.slots or DEFAULT_SLOTS
    shared = load.shares_context
    context = load.context or shape_of(model).context * (1 if shared else slots)
    least = STEP if shared else STEP * slots
    for halving in range(1, HALVINGS + 1):
        smaller = context // 2**halving // STEP * STEP
        if smaller >= least:
            yield f"-c {smaller}", replace(load, context=smaller)
    fewer = slots // 2
    while fewer >= 1:
        yield f"-np {fewer}", replace(load, slots=fewer)
        fewer //= 2
    if load.flash and {load.key_type, load.value_type} & _PLAIN:
        quantized = replace(load, key_type=_QUANTIZED, value_type=_QUANTIZED)
        yield f"-ctk {_QUANTIZED} -ctv {_QUANTIZED}", quantized
