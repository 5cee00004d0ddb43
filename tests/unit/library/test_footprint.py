"""Estimates: what lies where. How much it is by a real llama-server: tests/integration/test_footprint_engine.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from supervisor_app.library.flags import load_of
from supervisor_app.library.footprint import Files, What, estimate
from supervisor_app.library.header import Length, Tensor
from supervisor_app.library.model import Model, ModelError

MIB = 2**20
LAYERS = 4


def model(architecture="llama", *, layers=LAYERS, tied=False, experts=False, **keys):
    """A model of so many layers of 10 MiB, with an embedding and an output of 7 MiB each."""
    sizes = {"token_embd.weight": 7 * MIB, "output_norm.weight": MIB}
    if not tied:
        sizes["output.weight"] = 7 * MIB
    for layer in range(layers):
        sizes[f"blk.{layer}.attn_q.weight"] = 4 * MIB
        sizes[f"blk.{layer}.{'ffn_up_exps' if experts else 'ffn_up'}.weight"] = 6 * MIB
    metadata = {
        "block_count": layers,
        "context_length": 4096,
        "embedding_length": 512,
        "feed_forward_length": 2048,
        "attention.head_count": 8,
        "attention.head_count_kv": 2,
        **{key.replace("__", "."): value for key, value in keys.items()},
    }
    return Model(
        path=Path("model.gguf"),
        metadata={
            "general.architecture": architecture,
            "tokenizer.ggml.tokens": Length(32000),
            **{f"{architecture}.{key}": value for key, value in metadata.items()},
        },
        tensors=tuple(Tensor(name=name, shape=(1,), size=size) for name, size in sizes.items()),
        file_size=0,
    )


def footprint(words="", gpus=1, shares=(), of=None, **files):
    return estimate(Files(model=of or model(), **files), load_of(words.split()), gpus, shares)


def bytes_of(found, what, place):
    return sum(part.bytes for part in found.parts if (part.what, part.place) == (what, place))


def weights(found, *places):
    return [bytes_of(found, What.WEIGHTS, place) / MIB for place in places]


# --- Where weights lie ---------------------------------------------------------------------------------


def test_without_a_gpu_all_is_on_the_host():
    found = footprint(gpus=0)
    assert found.places == (None,)
    assert weights(found, None) == [55]


def test_with_one_all_but_the_embedding_is_there():
    assert weights(footprint(), 0, None) == [48, 7]


def test_an_embedding_that_is_the_output_too_is_there_twice():
    assert weights(footprint(of=model(tied=True)), 0, None) == [48, 7]
    assert weights(footprint(of=model(tied=True), gpus=0), None) == [48]


@pytest.mark.parametrize(("layers", "gpu"), [(0, 0), (1, 8), (2, 18), (4, 38), (5, 48), (99, 48)])
def test_the_output_goes_first_then_the_last_layers(layers, gpu):
    assert weights(footprint(f"-ngl {layers}"), 0, None) == [gpu, 55 - gpu]


def test_without_devices_gpus_are_as_if_they_were_not_there():
    assert footprint("-dev none").places == (None,)


def test_two_gpus_share_by_what_is_free_or_by_what_is_said():
    # 5 parts, the output among them
    assert weights(footprint(gpus=2), 0, 1) == [30, 18]
    assert weights(footprint(gpus=2, shares=(4.0, 1.0)), 0, 1) == [40, 8]
    assert weights(footprint("-ts 1,4", gpus=2, shares=(4.0, 1.0)), 0, 1) == [10, 38]
    assert weights(footprint("-sm none -mg 1", gpus=2), 0, 1) == [0, 48]


def test_experts_stay_on_the_host_as_far_as_they_are_told_to():
    of = model(experts=True)
    assert weights(footprint("-cmoe", of=of), 0, None) == [24, 31]
    assert weights(footprint("-ncmoe 1", of=of), 0, None) == [42, 13]
    assert weights(footprint("-ot blk.[01].ffn_.*_exps=CPU", of=of), 0, None) == [36, 19]


def test_an_adapter_lies_where_its_layers_lie():
    adapter = replace(model(), tensors=(Tensor(name="blk.0.attn_q.weight.lora_a", shape=(1,), size=3 * MIB),))
    found = footprint("-ngl 2", adapters=(adapter,))
    assert bytes_of(found, What.ADAPTERS, None) == 3 * MIB
    assert bytes_of(footprint(adapters=(adapter,)), What.ADAPTERS, 0) == 3 * MIB


def test_a_projector_is_on_the_first_gpu_unless_told_otherwise():
    projector = replace(model(), metadata={"general.architecture": "clip"})
    assert bytes_of(footprint(projector=projector), What.PROJECTOR, 0) == 55 * MIB
    found = footprint("--no-mmproj-offload", projector=projector)
    assert bytes_of(found, What.PROJECTOR, None) == 55 * MIB


def test_a_projector_computes_a_whole_picture():
    sizes = {"image_size": 512, "patch_size": 16, "embedding_length": 1024, "feed_forward_length": 4096}
    projector = replace(model(), metadata={f"clip.vision.{key}": value for key, value in sizes.items()})
    assert bytes_of(footprint(projector=projector), What.PROJECTOR, 0) == 55 * MIB + 1024 * 17 * 4096


def test_a_draft_model_has_all_of_it_once_more_where_it_is_told_to_be():
    found = footprint("-ngld 0", draft=model(layers=2))
    assert bytes_of(found, What.DRAFT, None) > 35 * MIB
    assert bytes_of(found, What.DRAFT, 0) == 0
    assert bytes_of(footprint(draft=model(layers=2)), What.DRAFT, 0) > 28 * MIB


# --- The context ---------------------------------------------------------------------------------------


def test_the_cache_lies_with_its_layers_or_on_the_host():
    cache = 4096 * LAYERS * 2 * 128 * 2
    answers = 32000 * 4 * 4
    assert bytes_of(footprint(), What.CONTEXT, 0) == cache
    assert bytes_of(footprint("-ngl 3"), What.CONTEXT, 0) == cache // 2
    assert bytes_of(footprint("-nkvo"), What.CONTEXT, None) == cache + answers


def context(words, **files):
    return bytes_of(footprint(words, gpus=1, **files), What.CONTEXT, 0)


def test_a_context_is_shared_by_slots_or_each_has_its_own():
    a_token = LAYERS * 2 * 128 * 2
    assert context("-c 1000") == 1024 * a_token
    assert context("-np 2") == 2 * 4096 * a_token
    assert context("-np 2 -c 1000") == 2 * 512 * a_token
    assert context("-np 2 -c 1000 -kvu") == 1024 * a_token
    assert context("-c 1000 -no-kvu") == 1024 * a_token


def test_a_cache_of_another_type_is_smaller():
    assert context("-ctk q8_0 -ctv q4_0") == 4096 * LAYERS * (128 // 32) * (34 + 18)


def test_layers_differ_in_heads_of_keys():
    assert context("", of=model(attention__head_count_kv=(2, 1, 0, 1))) * 2 == context("")


def test_layers_without_heads_of_keys_keep_no_cache():
    of = model("jamba", attention__head_count_kv=(2, 0, 0, 0), ssm__conv_kernel=4, ssm__inner_size=1024)
    assert context("", of=of) == 4096 * 2 * 128 * 2 + 3 * 3 * 1024 * 4 * 4


def test_a_layer_with_a_window_keeps_no_more_than_it_sees():
    of = model("gemma3", layers=6, attention__sliding_window=512)
    a_layer = 2 * 128 * 2
    assert context("", of=of) == (4096 + 5 * (4 * 512 + 512)) * a_layer
    assert context("-np 1", of=of) == (4096 + 5 * 1024) * a_layer
    assert context("--swa-full", of=of) == 6 * 4096 * a_layer
    assert context("-c 512", of=of) == 6 * 512 * a_layer


def test_which_layers_have_a_window_is_said_by_the_file_or_known_of_the_architecture():
    a_layer = 2 * 128 * 2
    told = (True, False, False, False)
    known = {"attention__sliding_window": 512}
    listed = model("new", attention__sliding_window_pattern=told, **known)
    assert context("-np 1", of=listed) == (3 * 4096 + 1024) * a_layer
    assert (
        context("-np 1", of=model("new", attention__sliding_window_pattern=2, **known)) == 2 * 5120 * a_layer
    )
    assert context("-np 1", of=model("gpt-oss", **known)) == 2 * 5120 * a_layer
    assert context("-np 1", of=model("smallthinker", **known)) == (4096 + 3 * 1024) * a_layer
    assert context("-np 1", of=model("unheard-of", **known)) == 4 * 4096 * a_layer


def test_a_latent_cache_has_keys_alone():
    of = model(
        "deepseek2",
        attention__head_count_kv=1,
        attention__key_length=576,
        attention__value_length=512,
        attention__key_length_mla=192,
    )
    assert context("", of=of) == 4096 * LAYERS * 576 * 2


def test_layers_that_share_a_cache_and_layers_for_drafts_have_none():
    assert context("", of=model(attention__shared_kv_layers=1)) * 4 == 3 * context("")
    assert context("", of=model(nextn_predict_layers=1)) * 4 == 3 * context("")


def test_a_recurrent_model_keeps_a_state_for_each_slot():
    of = model("rwkv7", wkv__head_size=64)
    assert context("-np 3", of=of) == 3 * LAYERS * 512 * (2 + 64) * 4
    short = model("lfm2", attention__head_count_kv=(2, 0, 0, 0), shortconv__l_cache=3)
    assert context("-np 1", of=short) == 4096 * 2 * 128 * 2 + 3 * 512 * 2 * 4
    every = model("qwen3next", full_attention_interval=4, ssm__conv_kernel=4, ssm__inner_size=512)
    assert context("", of=every) == 4096 * 2 * 128 * 2 + 3 * 4 * 3 * 512 * 4


# --- Computing -----------------------------------------------------------------------------------------


def test_every_device_that_computes_reserves_for_its_worst_layer():
    work = 512 * 4 * (3 * 2048 + 5 * 512) + 4096 * 512 * 2
    found = footprint("-ngl 3")
    assert bytes_of(found, What.COMPUTE, 0) == bytes_of(found, What.COMPUTE, None) == work
    assert bytes_of(footprint(), What.COMPUTE, None) == 512 * 4 * 512 + 4096 * 512 * 2


def test_a_smaller_batch_computes_less():
    assert bytes_of(footprint("-ub 64"), What.COMPUTE, 0) * 8 == bytes_of(footprint(), What.COMPUTE, 0)


def test_a_large_vocabulary_is_more_than_all_layers():
    wide = model(vocab_size=10**6)
    assert bytes_of(footprint("-np 64 -c 4096 -kvu", of=wide), What.COMPUTE, 0) > 64 * 10**6 * 4


def test_without_flash_attention_every_head_weighs_every_token():
    work = 512 * 4 * (8 * 4096 + 4 * 512 + 5 * 512 // 2 + 2 * 128) + 4096 * 512 * 4
    assert bytes_of(footprint("-fa off"), What.COMPUTE, 0) == work


def test_a_recurrent_model_computes_by_its_inner_width():
    of = model(
        "mamba", feed_forward_length=0, attention__head_count=0, ssm__inner_size=1024, ssm__state_size=64
    )
    assert bytes_of(footprint("-np 1", of=of), What.COMPUTE, 0) == 512 * 4 * (7680 + 2 * 64 * 1024 // 512)


def test_experts_compute_as_many_as_answer():
    few = model(expert_used_count=2, expert_feed_forward_length=1024)
    many = model(expert_used_count=8, expert_feed_forward_length=128)
    assert bytes_of(footprint(of=few), What.COMPUTE, 0) == 512 * 4 * (6 * 1024 + 5 * 512) + 4096 * 512 * 2
    assert bytes_of(footprint(of=many), What.COMPUTE, 0) == 512 * 4 * (24 * 128 + 13 * 512) + 4096 * 512 * 2


# --- What the sum does not say -------------------------------------------------------------------------


def test_notes_say_what_is_not_in_the_sum():
    assert footprint("-cram 0 -fit off", gpus=0).notes == ()
    on_a_gpu = " ".join(footprint("-cram -1").notes)
    assert "without a limit (-cram)" in on_a_gpu
    assert "for CUDA some hundred MiB" in on_a_gpu
    assert "(-fit)" in on_a_gpu


# --- Metadata that make no sense -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (model("clip"), "model.gguf is no language model: it belongs to one, by --mmproj or --lora."),
        (model(""), "model.gguf does not say of which architecture it is (general.architecture)."),
        (model(block_count=0, layers=1), "model.gguf claims 0 layers; 1 to 4096 make sense."),
        (model(block_count=2**30, layers=1), f"model.gguf claims {2**30} layers; 1 to 4096 make sense."),
        (model(embedding_length="x"), "model.gguf has x as llama.embedding_length: that makes no sense."),
        (
            model(attention__head_count=Length(9000)),
            "model.gguf has a list of 9000 as llama.attention.head_count: that makes no sense.",
        ),
        (
            model(attention__head_count_kv=(1, 2)),
            "model.gguf: llama.attention.head_count_kv has 2 numbers for 4 layers.",
        ),
        (
            model(context_length=2**63),
            f"model.gguf has {2**63} as llama.context_length: that makes no sense.",
        ),
    ],
)
def test_metadata_that_make_no_sense_are_one_sentence(of, said):
    with pytest.raises(ModelError) as error:
        footprint(of=of)
    assert str(error.value) == said


@pytest.mark.parametrize("kind", ["adapter", "mmproj"])
def test_a_file_that_belongs_to_a_model_is_no_model(kind):
    of = replace(model(), metadata={**model().metadata, "general.type": kind})
    with pytest.raises(ModelError, match="is no language model: it belongs to one, by --mmproj or --lora"):
        footprint(of=of)


def test_optional_fields_that_a_model_lacks_count_as_none():
    of = model("mamba", ssm__inner_size=1024)
    metadata = {key: value for key, value in of.metadata.items() if "feed_forward" not in key}
    assert footprint(of=replace(of, metadata={**metadata, "general.type": "model"})).total > 0


def test_a_field_that_a_model_must_have_is_missed_by_name():
    of = model()
    metadata = {key: value for key, value in of.metadata.items() if "embedding_length" not in key}
    with pytest.raises(ModelError, match=r"model.gguf does not say its llama.embedding_length\."):
        footprint(of=replace(of, metadata=metadata))
