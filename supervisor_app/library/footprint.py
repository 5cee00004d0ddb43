"""An estimate of the memory that a server will need, from the metadata of its model. Pure.

The rules are llama.cpp's own: docs/models-and-memory.md has them in words, and
`tests/integration/test_footprint_engine.py` compares them with what a real llama-server prints at `-lv 4`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from supervisor_app.library.flags import CACHE_TYPES, DEFAULT_SLOTS
from supervisor_app.library.placing import Place, Placing
from supervisor_app.library.shape import shape_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from supervisor_app.library.flags import Load
    from supervisor_app.library.model import Model
    from supervisor_app.library.shape import Layer, Shape

_CELLS = 256
"""Contexts and windows are rounded up to so many tokens."""
_F32, _F16 = 4, 2


class What(StrEnum):
    """A part of what a server needs."""

    WEIGHTS = "weights"
    CONTEXT = "context"
    COMPUTE = "compute"
    PROJECTOR = "projector"
    ADAPTERS = "adapters"
    DRAFT = "draft model"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Bytes of one kind on one device."""

    what: What
    place: Place
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """All parts. `notes`: whole sentences on what the sum does not say."""

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return sum(part.bytes for part in self.parts)

    def on(self, place: Place) -> int:
        """Bytes on one device."""
        return sum(part.bytes for part in self.parts if part.place == place)

    @property
    def places(self) -> tuple[Place, ...]:
        """GPUs in their order, the host last."""
        found = {part.place for part in self.parts}
        return (*sorted(place for place in found if place is not None), *([None] if None in found else []))


@dataclass(frozen=True, kw_only=True)
class Files:
    """The models that a command line names, read already."""

    model: Model
    draft: Model | None = None
    projector: Model | None = None
    adapters: tuple[Model, ...] = ()


def estimate(files: Files, load: Load, gpus: int, shares: Sequence[float] = ()) -> Footprint:
    """Estimate what a start with these flags needs on a machine with so many GPUs.

    `shares`: the free memory of each, by which llama-server spreads layers unless `-ts` says otherwise.
    Raises ModelError if the metadata of a model make no sense.
    """
    gpus = 0 if load.no_device else gpus
    shape = shape_of(files.model)
    placing = Placing(load, len(shape.layers), gpus, load.gpu_layers, tuple(shares))
    parts = [*_language_model(files.model, shape, load, placing)]
    if files.projector is not None:
        place = load.main_device if gpus and load.projector_on_device else None
        parts.append(Part(what=What.PROJECTOR, place=place, bytes=_projector(files.projector)))
    for adapter in files.adapters:
        parts += _weights(adapter, placing, What.ADAPTERS)
    if files.draft is not None:
        parts += _draft(files.draft, load, replace(placing, gpu_layers=load.draft.gpu_layers))
    return Footprint(parts=_summed(parts), notes=tuple(_notes(load, gpus)))


def _language_model(model: Model, shape: Shape, load: Load, placing: Placing) -> Iterator[Part]:
    yield from _weights(model, placing, What.WEIGHTS)
    yield from _context(shape, load, placing)
    yield from _compute(shape, load, placing)


def _draft(model: Model, load: Load, placing: Placing) -> Iterator[Part]:
    """The same, with flags of its own; its context is as long as that of the model it guesses for."""
    draft, shape = load.draft, shape_of(model)
    own = replace(
        load,
        key_type=draft.key_type,
        value_type=draft.value_type,
        micro_batch=draft.micro_batch or load.micro_batch,
    )
    for part in _language_model(model, shape, own, replace(placing, load=own, layers=len(shape.layers))):
        yield replace(part, what=What.DRAFT)


def _weights(model: Model, placing: Placing, what: What) -> Iterator[Part]:
    names = set()
    for tensor in model.tensors:
        names.add(tensor.name)
        yield Part(what=what, place=placing.of_tensor(tensor.name), bytes=tensor.size)
    if what is What.WEIGHTS and "output.weight" not in names and placing.of_output is not None:
        # The embedding serves as output: it is on the host, and a copy of it where the output is made.
        tied = sum(tensor.size for tensor in model.tensors if tensor.name == "token_embd.weight")
        yield Part(what=what, place=placing.of_output, bytes=tied)


# --- The context ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sequences:
    """`streams` caches of `cells` tokens each; a unified one serves all slots."""

    slots: int
    unified: bool
    cells: int

    @property
    def streams(self) -> int:
        return 1 if self.unified else self.slots

    def cells_of(self, window: int, load: Load) -> int:
        """`llama_kv_cache_iswa`: a window for each sequence of a cache, and the tokens that are computed."""
        if not window or load.full_windows:
            return self.cells
        return min(self.cells, _padded(window * (self.slots if self.unified else 1) + _tokens(load, self)))


def _sequences(shape: Shape, load: Load) -> _Sequences:
    slots = load.slots or DEFAULT_SLOTS
    if load.shares_context or slots == 1:
        return _Sequences(slots, True, _padded(load.context or shape.context))
    each = load.context // slots if load.context else shape.context
    return _Sequences(slots, False, _padded(each))


def _padded(cells: int) -> int:
    return max(1, -(-cells // _CELLS)) * _CELLS


def _tokens(load: Load, sequences: _Sequences) -> int:
    """Return how many tokens are computed at once."""
    return max(1, min(load.micro_batch, load.batch or load.micro_batch, sequences.cells * sequences.streams))


def _context(shape: Shape, load: Load, placing: Placing) -> Iterator[Part]:
    sequences = _sequences(shape, load)
    for index, layer in enumerate(shape.layers):
        cells = sequences.streams * sequences.cells_of(layer.window, load)
        cache = cells * _bytes_of_a_token(layer, load)
        place = placing.of_layer(index) if load.cache_on_device else None
        yield Part(what=What.CONTEXT, place=place, bytes=cache + layer.state * sequences.slots * _F32)
    yield Part(what=What.CONTEXT, place=None, bytes=shape.vocabulary * sequences.slots * _F32)  # the answers


def _bytes_of_a_token(layer: Layer, load: Load) -> int:
    total = 0
    for numbers, kind in ((layer.key, load.key_type), (layer.value, load.value_type)):
        of_block, size = CACHE_TYPES[kind]
        total += -(-numbers // of_block) * size
    return total


# --- Computing -----------------------------------------------------------------------------------------


def _compute(shape: Shape, load: Load, placing: Placing) -> Iterator[Part]:
    """The same on each device that computes a layer: each reserves for its worst layer."""
    sequences = _sequences(shape, load)
    tokens = _tokens(load, sequences)
    inputs = _masks(shape, load, sequences, tokens)
    work = max(
        _F32 * tokens * _feed_forward(shape),
        _F32 * tokens * _attention(shape, load, sequences),
        _F32 * tokens * _state(shape, sequences, tokens),
        _F32 * shape.vocabulary * sequences.slots,
    )
    for place in placing.used:
        yield Part(what=What.COMPUTE, place=place, bytes=inputs + work)
    if None not in placing.used:
        yield Part(what=What.COMPUTE, place=None, bytes=inputs + _F32 * tokens * shape.embedding)


def _masks(shape: Shape, load: Load, sequences: _Sequences, tokens: int) -> int:
    """Return the size of attention's masks in bytes: for layers that see all, and for those with a window."""
    windows = {layer.window for layer in shape.layers if layer.key}
    cells = sum(sequences.cells_of(window, load) for window in windows)
    return cells * tokens * (_F16 if load.flash else _F32)


def _feed_forward(shape: Shape) -> int:
    """Gate, up and their product, beside five vectors of the width of the model.

    As many experts count as answer one token; their results need room of their own where the three leave
    none.
    """
    if not shape.experts_used:
        return 3 * shape.feed_forward + 5 * shape.embedding
    results = shape.experts_used * shape.embedding if shape.embedding > 2 * shape.expert_feed_forward else 0
    return 3 * shape.experts_used * shape.expert_feed_forward + 5 * shape.embedding + results


def _attention(shape: Shape, load: Load, sequences: _Sequences) -> int:
    """Return the floats of attention per token. Without flash attention all weights are kept."""
    if not any(layer.key for layer in shape.layers):
        return 0
    if load.flash:
        return 9 * shape.embedding
    keys = max(layer.key for layer in shape.layers)
    return shape.heads * sequences.cells + 4 * shape.embedding + 5 * shape.queries // 2 + 2 * keys


def _state(shape: Shape, sequences: _Sequences, tokens: int) -> int:
    """Return the floats of Mamba per token: 7.5 vectors of the inner width, all sequences' states twice."""
    inner = shape.state_inner
    return 15 * inner // 2 + 2 * sequences.slots * shape.state_size * inner // tokens


def _projector(model: Model) -> int:
    """Weights, and the attention of one picture at its full size: each patch to each other."""
    numbers = {
        key: value
        for key in ("image_size", "patch_size", "embedding_length", "feed_forward_length")
        if isinstance(value := model.metadata.get(f"clip.vision.{key}"), int)
    }
    if len(numbers) < 4 or not 0 < numbers["patch_size"] <= numbers["image_size"] < 2**16:
        return model.weights
    patches = (numbers["image_size"] // numbers["patch_size"]) ** 2
    of_a_patch = 3 * numbers["feed_forward_length"] + 5 * numbers["embedding_length"]
    return model.weights + _F32 * patches * of_a_patch


# --- The sum -------------------------------------------------------------------------------------------


def _summed(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Sum parts up to one for each kind on each device, in the order of `What`."""
    sums: dict[tuple[What, Place], int] = {}
    for part in parts:
        sums[part.what, part.place] = sums.get((part.what, part.place), 0) + part.bytes
    order = list(What)
    return tuple(
        Part(what=what, place=place, bytes=count)
        for (what, place), count in sorted(
            sums.items(), key=lambda item: (order.index(item[0][0]), item[0][1] is None, item[0][1] or 0)
        )
        if count
    )


def _notes(load: Load, gpus: int) -> Iterator[str]:
    if load.prompt_cache_mib:
        limit = f"up to {load.prompt_cache_mib} MiB" if load.prompt_cache_mib > 0 else "without a limit"
        yield f"While it serves it also keeps prompts in the host's memory, {limit} (-cram)."
    if gpus:
        yield "What a GPU's driver takes for each process is not in it: for CUDA some hundred MiB."
        if load.fit:
            yield "Where this is more than is free, llama-server shrinks context and layers on GPUs (-fit)."
