"""Models of several shapes, all zeros, that llama-server loads: what they need is measured, not what they say."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import gguf
import numpy

if TYPE_CHECKING:
    from pathlib import Path

Shape = dict[str, tuple[int, ...]]


def write_model(
    path: Path, arch: str, tensors: Shape, *, vocabulary: int = 1000, half: bool = True, **keys: Any
) -> Path:
    """Write a GGUF of that architecture: `keys` are its metadata, with `__` for a dot."""
    with contextlib.closing(gguf.GGUFWriter(path, arch)) as writer:
        for key, value in keys.items():
            _add(writer, f"{arch}.{key.replace('__', '.')}", value)
        _add_vocabulary(writer, vocabulary)
        for name, shape in tensors.items():
            kind = numpy.float16 if half and len(shape) > 1 and "conv1d" not in name else numpy.float32
            if "shortconv.conv" in name or "ssm_a" in name or "norm" in name:
                kind = numpy.float32
            writer.add_tensor(name, numpy.zeros(shape, kind))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def _add_vocabulary(writer: gguf.GGUFWriter, count: int) -> None:
    special = ["<unk>", "<s>", "</s>"]
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    words = [f"▁w{number}" for number in range(count - len(special) - len(bytes_))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*special, *bytes_, *words])
    writer.add_token_scores([0.0] * count)
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * len(words)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _ends(embd: int, vocabulary: int) -> Shape:
    return {
        "token_embd.weight": (vocabulary, embd),
        "output_norm.weight": (embd,),
        "output.weight": (vocabulary, embd),
    }


def dense(
    path: Path,
    *,
    embd: int = 256,
    heads: int = 8,
    kv: int = 2,
    blocks: int = 4,
    ff: int = 512,
    vocabulary: int = 1000,
    context: int = 4096,
    head: int = 0,
) -> Path:
    """A `llama` with grouped heads."""
    head = head or embd // heads
    tensors = _ends(embd, vocabulary)
    for block in range(blocks):
        tensors |= {
            f"blk.{block}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (embd,),
                "attn_q": (heads * head, embd),
                "attn_k": (kv * head, embd),
                "attn_v": (kv * head, embd),
                "attn_output": (embd, heads * head),
                "ffn_norm": (embd,),
                "ffn_gate": (ff, embd),
                "ffn_up": (ff, embd),
                "ffn_down": (embd, ff),
            }.items()
        }
    return write_model(
        path,
        "llama",
        tensors,
        vocabulary=vocabulary,
        context_length=context,
        embedding_length=embd,
        block_count=blocks,
        feed_forward_length=ff,
        attention__head_count=heads,
        attention__head_count_kv=kv,
        attention__key_length=head,
        attention__value_length=head,
        attention__layer_norm_rms_epsilon=1e-5,
        rope__dimension_count=head,
    )


def sliding(
    path: Path,
    *,
    embd: int = 256,
    heads: int = 4,
    kv: int = 2,
    head: int = 64,
    blocks: int = 12,
    ff: int = 512,
    vocabulary: int = 2000,
    window: int = 512,
) -> Path:
    """A `gemma3`: five of six layers see a window alone; the output is the embedding."""
    tensors = _ends(embd, vocabulary)
    del tensors["output.weight"]
    for block in range(blocks):
        tensors |= {
            f"blk.{block}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (embd,),
                "attn_q": (heads * head, embd),
                "attn_k": (kv * head, embd),
                "attn_v": (kv * head, embd),
                "attn_output": (embd, heads * head),
                "attn_q_norm": (head,),
                "attn_k_norm": (head,),
                "post_attention_norm": (embd,),
                "ffn_norm": (embd,),
                "ffn_gate": (ff, embd),
                "ffn_up": (ff, embd),
                "ffn_down": (embd, ff),
                "post_ffw_norm": (embd,),
            }.items()
        }
    return write_model(
        path,
        "gemma3",
        tensors,
        vocabulary=vocabulary,
        context_length=8192,
        embedding_length=embd,
        block_count=blocks,
        feed_forward_length=ff,
        attention__head_count=heads,
        attention__head_count_kv=kv,
        attention__key_length=head,
        attention__value_length=head,
        attention__layer_norm_rms_epsilon=1e-6,
        attention__sliding_window=window,
        rope__freq_base=1e6,
    )


def experts(
    path: Path,
    *,
    embd: int = 256,
    heads: int = 8,
    kv: int = 2,
    head: int = 32,
    blocks: int = 4,
    ff: int = 128,
    count: int = 16,
    used: int = 4,
    vocabulary: int = 1000,
) -> Path:
    """A `qwen3moe`."""
    tensors = _ends(embd, vocabulary)
    for block in range(blocks):
        tensors |= {
            f"blk.{block}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (embd,),
                "attn_q": (heads * head, embd),
                "attn_k": (kv * head, embd),
                "attn_v": (kv * head, embd),
                "attn_output": (embd, heads * head),
                "attn_q_norm": (head,),
                "attn_k_norm": (head,),
                "ffn_norm": (embd,),
                "ffn_gate_inp": (count, embd),
                "ffn_gate_exps": (count, ff, embd),
                "ffn_up_exps": (count, ff, embd),
                "ffn_down_exps": (count, embd, ff),
            }.items()
        }
    return write_model(
        path,
        "qwen3moe",
        tensors,
        vocabulary=vocabulary,
        context_length=4096,
        embedding_length=embd,
        block_count=blocks,
        feed_forward_length=4 * ff,
        expert_feed_forward_length=ff,
        expert_count=count,
        expert_used_count=used,
        attention__head_count=heads,
        attention__head_count_kv=kv,
        attention__key_length=head,
        attention__value_length=head,
        attention__layer_norm_rms_epsilon=1e-6,
        rope__freq_base=1e6,
    )


def recurrent(
    path: Path, *, embd: int = 256, blocks: int = 6, state: int = 16, conv: int = 4, vocabulary: int = 1000
) -> Path:
    """A `mamba`: no cache that grows with the context, one state for each sequence."""
    inner, rank = 2 * embd, embd // 16
    tensors = _ends(embd, vocabulary)
    for block in range(blocks):
        name = f"blk.{block}"
        tensors |= {
            f"{name}.attn_norm.weight": (embd,),
            f"{name}.ssm_in.weight": (2 * inner, embd),
            f"{name}.ssm_conv1d.weight": (inner, conv),
            f"{name}.ssm_conv1d.bias": (inner,),
            f"{name}.ssm_x.weight": (rank + 2 * state, inner),
            f"{name}.ssm_dt.weight": (inner, rank),
            f"{name}.ssm_dt.bias": (inner,),
            f"{name}.ssm_a": (inner, state),
            f"{name}.ssm_d": (inner,),
            f"{name}.ssm_out.weight": (embd, inner),
        }
    return write_model(
        path,
        "mamba",
        tensors,
        vocabulary=vocabulary,
        context_length=4096,
        embedding_length=embd,
        block_count=blocks,
        feed_forward_length=0,
        attention__head_count=0,
        attention__layer_norm_rms_epsilon=1e-5,
        ssm__conv_kernel=conv,
        ssm__inner_size=inner,
        ssm__state_size=state,
        ssm__time_step_rank=rank,
    )


def hybrid(
    path: Path,
    *,
    embd: int = 256,
    heads: int = 8,
    kv: int = 2,
    ff: int = 512,
    blocks: int = 6,
    every: int = 3,
    conv: int = 3,
    vocabulary: int = 1000,
) -> Path:
    """An `lfm2`: every third layer attends, the others keep a short convolution's state."""
    head = embd // heads
    tensors = _ends(embd, vocabulary)
    tensors["token_embd_norm.weight"] = tensors.pop("output_norm.weight")
    del tensors["output.weight"]
    heads_kv = [kv if block % every == every - 1 else 0 for block in range(blocks)]
    for block in range(blocks):
        parts: Shape = {
            "attn_norm": (embd,),
            "ffn_norm": (embd,),
            "ffn_gate": (ff, embd),
            "ffn_up": (ff, embd),
            "ffn_down": (embd, ff),
        }
        if heads_kv[block]:
            parts |= {
                "attn_q": (embd, embd),
                "attn_k": (kv * head, embd),
                "attn_v": (kv * head, embd),
                "attn_output": (embd, embd),
                "attn_q_norm": (head,),
                "attn_k_norm": (head,),
            }
        else:
            parts |= {
                "shortconv.conv": (embd, conv),
                "shortconv.in_proj": (3 * embd, embd),
                "shortconv.out_proj": (embd, embd),
            }
        tensors |= {f"blk.{block}.{name}.weight": shape for name, shape in parts.items()}
    return write_model(
        path,
        "lfm2",
        tensors,
        vocabulary=vocabulary,
        context_length=4096,
        embedding_length=embd,
        block_count=blocks,
        feed_forward_length=ff,
        attention__head_count=heads,
        attention__head_count_kv=heads_kv,
        attention__layer_norm_rms_epsilon=1e-5,
        shortconv__l_cache=conv,
        rope__freq_base=1e6,
    )
