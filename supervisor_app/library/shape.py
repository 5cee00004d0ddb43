"""The layers of a model, from its metadata as llama.cpp reads them. Pure.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; what is a default or a constant of one
architecture is in `src/models/*.cpp` of llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisor_app.library.header import Length
from supervisor_app.library.model import ModelError

if TYPE_CHECKING:
    from supervisor_app.library.model import Model

MOST_LAYERS = 4096
MOST = 2**31
"""Largest number of a model; larger ones are mistakes or attacks."""
_PERIODS = {
    **dict.fromkeys(("gemma2", "gpt-oss"), 2),
    **dict.fromkeys(("cohere2", "exaone4", "exaone-moe", "llama4", "olmo2", "smallthinker", "afmoe"), 4),
    "gemma3n": 5,
    **dict.fromkeys(("gemma3", "gemma-embedding"), 6),
}
"""Period of the layers of which one sees everything, the others a window, unless the file says otherwise."""
_DENSE_FIRST = frozenset({"smallthinker"})
_CHUNK = {"llama4": 8192}
"""A window that the file does not name."""
_ALL_RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
_BOTH = frozenset({"falcon-h1"})
"""Architectures of which every layer attends and keeps a state."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """`key` and `value`: numbers to cache of a token; `state`: of a sequence. `window` 0: sees all."""

    key: int
    value: int
    state: int
    window: int


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes in numbers, not bytes. `experts_used` 0: no mixture of experts."""

    context: int
    embedding: int
    vocabulary: int
    heads: int
    queries: int
    feed_forward: int
    experts_used: int
    expert_feed_forward: int
    state_inner: int
    state_size: int
    layers: tuple[Layer, ...]


def shape_of(model: Model) -> Shape:
    """Return the shape of a language model. Raises ModelError when its metadata make no sense."""
    read = _Metadata(model)
    if not model.architecture:
        raise ModelError(f"{model.path} does not say of which architecture it is (general.architecture).")
    if model.architecture == "clip" or ("general.type" in model.metadata and read.is_adapter):
        raise ModelError(f"{model.path} is no language model: it belongs to one, by --mmproj or --lora.")
    blocks = read.number("block_count", required=True)
    if not 0 < blocks <= MOST_LAYERS:
        raise ModelError(f"{model.path} claims {blocks} layers; 1 to {MOST_LAYERS} make sense.")
    used = read.number("expert_used_count")
    layers = _Layers(read, blocks)
    return Shape(
        context=read.number("context_length", required=True),
        embedding=layers.embedding,
        vocabulary=read.vocabulary(),
        heads=max(layers.heads),
        queries=max(layers.heads) * layers.key_length,
        feed_forward=max(read.numbers("feed_forward_length", blocks)),
        experts_used=used,
        expert_feed_forward=read.number("expert_feed_forward_length")
        or (max(read.numbers("feed_forward_length", blocks)) if used else 0),
        state_inner=read.number("ssm.inner_size"),
        state_size=read.number("ssm.state_size"),
        layers=tuple(layers.layer(index) for index in range(layers.count)),
    )


class _Metadata:
    """Keys of this architecture, each checked for being a number that makes sense."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def architecture(self) -> str:
        return self._model.architecture

    @property
    def is_adapter(self) -> bool:
        return self._model.metadata["general.type"] in ("adapter", "mmproj")

    def raw(self, key: str) -> Any:
        return self._model.metadata.get(f"{self.architecture}.{key}")

    def number(self, key: str, default: int = 0, *, required: bool = False) -> int:
        """A list counts as its largest number."""
        value = self.raw(key)
        if value is None and required:
            raise ModelError(f"{self._model.path} does not say its {self.architecture}.{key}.")
        return default if value is None else max(self._checked(key, value), default=0)

    def numbers(self, key: str, count: int, default: int = 0) -> tuple[int, ...]:
        """Read a number for each layer: a single one stands for all."""
        value = self.raw(key)
        if value is None:
            return (default,) * count
        found = self._checked(key, value)
        if isinstance(value, tuple) and len(found) < count:
            raise ModelError(
                f"{self._model.path}: {self.architecture}.{key} has {len(found)} numbers for {count} layers."
            )
        return found[:count] if isinstance(value, tuple) else found * count

    def _checked(self, key: str, value: Any) -> tuple[int, ...]:
        found = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(number, int) and -1 <= number < MOST for number in found):
            shown = f"a list of {value.items}" if isinstance(value, Length) else str(value)[:60]
            raise ModelError(
                f"{self._model.path} has {shown} as {self.architecture}.{key}: that makes no sense."
            )
        return tuple(max(0, number) for number in found)

    def vocabulary(self) -> int:
        if (count := self.number("vocab_size")) > 0:
            return count
        tokens = self._model.metadata.get("tokenizer.ggml.tokens")
        return tokens.items if isinstance(tokens, Length) else len(tokens or ())


class _Layers:
    """Each layer: does it attend, to what, and which state does it keep?"""

    def __init__(self, read: _Metadata, blocks: int) -> None:
        self._read = read
        self.count = max(1, blocks - read.number("nextn_predict_layers"))
        self.embedding = read.number("embedding_length", required=True)
        self.heads = read.numbers("attention.head_count", blocks)
        self._heads_kv = (
            self.heads
            if read.raw("attention.head_count_kv") is None
            else read.numbers("attention.head_count_kv", blocks)
        )
        of_a_head = self.embedding // max(1, *self.heads)
        self.key_length = read.number("attention.key_length", of_a_head)
        self._value_length = read.number("attention.value_length", of_a_head)
        self._keys_alone = read.number("attention.key_length_mla") > 0
        self._with_cache = self.count - read.number("attention.shared_kv_layers")
        self._sliding = self._sliding_layers()
        self._recurrent = self._recurrent_layers()
        self._state = self._state_of_a_layer()

    def layer(self, index: int) -> Layer:
        recurrent, sliding = self._recurrent[index], self._sliding[index]
        attends = index < self._with_cache and (not recurrent or self._read.architecture in _BOTH)
        of_window = "_swa" if sliding else ""
        heads = self._heads_kv[index] if attends else 0
        key = self._read.number(f"attention.key_length{of_window}", self.key_length)
        value = self._read.number(f"attention.value_length{of_window}", self._value_length)
        return Layer(
            key=heads * key,
            value=0 if self._keys_alone else heads * value,
            state=self._state if recurrent else 0,
            window=self._window if sliding else 0,
        )

    @property
    def _window(self) -> int:
        return self._read.number("attention.sliding_window", _CHUNK.get(self._read.architecture, 0))

    def _sliding_layers(self) -> tuple[bool, ...]:
        pattern, architecture = self._read.raw("attention.sliding_window_pattern"), self._read.architecture
        if self._window == 0:
            return (False,) * self.count
        if isinstance(pattern, tuple):
            return tuple(map(bool, self._read.numbers("attention.sliding_window_pattern", self.count)))
        period = self._read.number("attention.sliding_window_pattern", _PERIODS.get(architecture, 1))
        if architecture in _DENSE_FIRST:
            return tuple(period > 0 and index % period != 0 for index in range(self.count))
        return tuple(period > 0 and index % period < period - 1 for index in range(self.count))

    def _recurrent_layers(self) -> tuple[bool, ...]:
        """Return the layers that keep a state: all, all but every n-th, or those without heads for keys."""
        architecture = self._read.architecture
        if architecture in _ALL_RECURRENT | _BOTH:
            return (True,) * self.count
        if (interval := self._read.number("full_attention_interval")) > 0:
            return tuple((index + 1) % interval != 0 for index in range(self.count))
        return tuple(heads == 0 for heads in self._heads_kv[: self.count])

    def _state_of_a_layer(self) -> int:
        """`n_embd_r` + `n_embd_s` of `src/llama-hparams.cpp`."""
        read = self._read
        if (head := read.number("wkv.head_size")) > 0:
            return self.embedding * (read.number("token_shift_count", 2) + head)
        if (kernel := read.number("shortconv.l_cache")) > 0:
            return self.embedding * (kernel - 1)
        inner, state, groups = (
            read.number(f"ssm.{key}") for key in ("inner_size", "state_size", "group_count")
        )
        kernel = read.number("ssm.conv_kernel")
        return max(0, kernel - 1) * (inner + 2 * groups * state) + state * inner
