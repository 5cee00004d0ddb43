"""A tiny model made on the spot, so that a first look and the tests need no download.

It is a real GGUF that llama-server loads and serves in some ten milliseconds, and it talks like a
nursery rhyme: each word belongs to a class, and the weights make every class call the next one. Nothing
calls the end of the text, so an answer has as many tokens as asked for.
"""

from __future__ import annotations

import contextlib
import filecmp
import importlib.util
import math
import os
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from pathlib import Path

    import gguf
    import numpy

    Matrix = numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.float32]]

MISSING = "The demo model needs the gguf package: pip install '.[engine]'"

CONTEXT = 2048
_EMBD, _HEADS, _HEADS_KV, _FF, _BLOCKS = 64, 4, 2, 128, 2
_PADDING_FF = 8192
"""Feed-forward length of a padding block: 6 MiB of weights. A longer one would need gigabytes to compute."""
_SEED = 20260101
_CALL = 3.0
"""Weight by which a word of the called class exceeds the others: more than a temperature evens out."""

# One class after the other, from the last back to the first. `▁` is SentencePiece's space.
_CLASSES: tuple[tuple[str, ...], ...] = (
    ("▁the", "▁a", "▁every", "▁one"),
    ("▁small", "▁patient", "▁woolly", "▁quick", "▁quiet"),
    ("▁llama", "▁server", "▁model", "▁process"),
    ("▁watches", "▁carries", "▁greets", "▁restarts", "▁follows"),
    ("▁another", "▁its", "▁your", "▁some"),
    ("▁hello", "▁token", "▁port", "▁meadow", "▁friend"),
    (".", ",", "▁and", "▁while"),
)
_SPECIAL = ("<unk>", "<s>", "</s>")
_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


class EngineExtraMissingError(ImportError):
    """The packages of the extra `engine` are not installed."""


def make_demo_model(path: Path, padding_mb: int = 0) -> Path:
    """Write the demo model to `path` (folders are made) and return it; under 1 MB unless padded.

    The same arguments give the same bytes; a file that already has them is kept, any other is replaced
    in one step, never seen half-written. `padding_mb` adds weights that change no answer but must be read
    and computed: 512 make a model that takes half a second to load and 60 ms for a token on one core.

    Raises EngineExtraMissingError, OSError.
    """
    if importlib.util.find_spec("gguf") is None:
        raise EngineExtraMissingError(MISSING)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _sweep(path)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _write(fresh, padding_mb)
        fresh.chmod(0o600)
        if not (path.is_file() and filecmp.cmp(path, fresh, shallow=False)):
            fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path


def _sweep(path: Path) -> None:
    """Drafts of processes that were killed over them."""
    for draft in path.parent.glob(f".{path.name}.*.part"):
        if not psutil.pid_exists(int(draft.name.split(".")[-2])):
            draft.unlink(missing_ok=True)


def _write(path: Path, padding_mb: int) -> None:
    import gguf

    vocabulary = make_vocabulary()
    padding_blocks = math.ceil(padding_mb * 2**20 / (3 * 4 * _EMBD * _PADDING_FF))
    with contextlib.closing(gguf.GGUFWriter(path, "llama")) as writer:
        _add_shape(writer, padding_blocks)
        writer.add_tokenizer_model("llama")
        writer.add_token_list([token for token, _, _ in vocabulary])
        writer.add_token_scores([score for _, score, _ in vocabulary])
        writer.add_token_types([kind for _, _, kind in vocabulary])
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_chat_template(_TEMPLATE)
        for name, tensor in _tensors([token for token, _, _ in vocabulary], padding_blocks).items():
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def _add_shape(writer: gguf.GGUFWriter, padding_blocks: int) -> None:
    import gguf

    writer.add_name("llamaproxy demo")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(_EMBD)
    writer.add_block_count(_BLOCKS + padding_blocks)
    writer.add_feed_forward_length(_PADDING_FF if padding_blocks else _FF)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS_KV)
    writer.add_rope_dimension_count(_EMBD // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def make_vocabulary() -> list[tuple[str, float, int]]:
    """Text, score and kind of each token: special ones, all bytes, printable characters, our words."""
    import gguf

    kinds = gguf.TokenType
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    characters = ["▁", *(chr(code) for code in range(ord("!"), ord("~") + 1))]
    words = [word for words in _CLASSES for word in words if word not in characters]
    return [
        (_SPECIAL[0], 0.0, kinds.UNKNOWN),
        *((token, 0.0, kinds.CONTROL) for token in _SPECIAL[1:]),
        *((token, 0.0, kinds.BYTE) for token in bytes_),
        *((token, -100.0, kinds.NORMAL) for token in characters),
        *((word, -1.0, kinds.NORMAL) for word in words),
    ]


def _tensors(tokens: list[str], padding_blocks: int) -> dict[str, Matrix]:
    """The weights. Dimension `c` of a token's vector says "class c comes next"; the rest is noise."""
    import numpy

    # RandomState, because NumPy promises its numbers for ever; those of a Generator may change.
    random = numpy.random.RandomState(_SEED)

    def noise(*shape: int) -> Matrix:
        return random.uniform(-0.1, 0.1, shape).astype(numpy.float32)

    embedding, output = noise(len(tokens), _EMBD), noise(len(tokens), _EMBD)
    classes = len(_CLASSES)
    embedding[:, :classes] = 0
    embedding[:, 0] = 1  # whatever is no word of ours calls the first class
    output[:, :classes] = -_CALL
    for number, words in enumerate(_CLASSES):
        for token in (tokens.index(word) for word in words):
            embedding[token, :classes] = 0
            embedding[token, (number + 1) % classes] = 1
            output[token, number] = _CALL
    tensors: dict[str, Matrix] = {"token_embd.weight": embedding, "output.weight": output}
    tensors["output_norm.weight"] = numpy.ones(_EMBD, numpy.float32)
    for block in range(_BLOCKS):
        for name, shape in _shapes(_FF).items():
            tensor = noise(*shape) if len(shape) > 1 else numpy.ones(shape, numpy.float32)
            if name in ("attn_output", "ffn_down"):  # what a block adds: noise, never a class
                tensor[:classes] = 0
            tensors[f"blk.{block}.{name}.weight"] = tensor
    return _padded(tensors, padding_blocks) if padding_blocks else tensors


def _padded(tensors: dict[str, Matrix], padding_blocks: int) -> dict[str, Matrix]:
    """Add weights that are all zero: they are read and computed, and add nothing."""
    import numpy

    shapes = _shapes(_PADDING_FF)
    padded = dict(tensors)
    for block in range(_BLOCKS + padding_blocks):
        for name, shape in shapes.items():
            zeros = numpy.zeros(shape, numpy.float32)
            # All blocks must have one shape: the real ones become a corner of it.
            if (real := tensors.get(f"blk.{block}.{name}.weight")) is not None:
                zeros[tuple(slice(length) for length in real.shape)] = real
            padded[f"blk.{block}.{name}.weight"] = zeros
    return padded


def _shapes(feed_forward: int) -> dict[str, tuple[int, ...]]:
    """The tensors of one block."""
    keys = _EMBD // _HEADS * _HEADS_KV
    return {
        "attn_norm": (_EMBD,),
        "attn_q": (_EMBD, _EMBD),
        "attn_k": (keys, _EMBD),
        "attn_v": (keys, _EMBD),
        "attn_output": (_EMBD, _EMBD),
        "ffn_norm": (_EMBD,),
        "ffn_gate": (feed_forward, _EMBD),
        "ffn_up": (feed_forward, _EMBD),
        "ffn_down": (_EMBD, feed_forward),
    }
