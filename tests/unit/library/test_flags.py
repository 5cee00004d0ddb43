"""Which flags of llama-server matter for memory, and how they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor_app.library.flags import ALL_LAYERS, FlagError, Load, load_of


def test_a_model_without_flags_is_loaded_as_llama_server_does():
    assert load_of([]) == Load(micro_batch=512, gpu_layers=ALL_LAYERS, prompt_cache_mib=8192, fit=True)


def test_flags_are_read_in_all_their_spellings():
    words = (
        "--ctx_size 4096 -np 2 --ubatch-size 256 -ngl 20 --cache-type-k q8_0 -ctv q4_0 -fa off --swa-full -nkvo"
        " -cmoe -ts 3,1 -sm none --main-gpu 1 --no-mmproj-offload -kvu --threads 4"
    )
    load = load_of(words.split())
    assert (load.context, load.slots, load.micro_batch, load.gpu_layers) == (4096, 2, 256, 20)
    assert (load.key_type, load.value_type, load.flash) == ("q8_0", "q4_0", False)
    assert (load.full_windows, load.cache_on_device, load.unified) == (True, False, True)
    assert (load.experts_on_host, load.shares) == (ALL_LAYERS, (3.0, 1.0))
    assert (load.one_device, load.main_device, load.projector_on_device) == (True, 1, False)


@pytest.mark.parametrize(
    ("line", "is_shared"),
    [("", True), ("-no-kvu", True), ("-np 2", False), ("-np 2 -kvu", True), ("-np 2 -kvu -no-kvu", False)],
)
def test_slots_share_the_context_where_llama_server_chooses_their_number_or_is_told_to(line, is_shared):
    assert load_of(line.split()).shares_context is is_shared


@pytest.mark.parametrize(("line", "context"), [("", 2048), ("-np 3", 1536), ("-np 3 -c 1024", 1024)])
def test_a_limit_for_each_slot_is_the_size_of_a_context_that_has_none(line, context):
    assert load_of(f"--kv-unified-per-slot 512 {line}".split()).context == context


@pytest.mark.parametrize(
    ("word", "layers"), [("auto", ALL_LAYERS), ("all", ALL_LAYERS), ("-1", ALL_LAYERS), ("0", 0)]
)
def test_layers_on_gpus(word, layers):
    assert load_of(["-ngl", word]).gpu_layers == layers


def test_the_files_beside_the_model():
    words = (
        "-m a.gguf --mmproj b.gguf --lora c.gguf,d.gguf --lora-scaled e.gguf:0.5 -md f.gguf -ngld 0 -ctkd f32"
    )
    load = load_of(words.split())
    assert (load.model, load.projector) == (Path("a.gguf"), Path("b.gguf"))
    assert load.adapters == (Path("c.gguf"), Path("d.gguf"), Path("e.gguf"))
    assert (load.draft.model, load.draft.gpu_layers, load.draft.key_type) == (Path("f.gguf"), 0, "f32")


def test_tensors_that_are_kept_on_the_host():
    assert load_of(["-ot", r"exps=CPU,blk\.0\.=CUDA0", "-ot", "norm=cpu"]).on_host == ("exps", "norm")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-c many", "-c many: llama-server would not take that value."),
        ("-c 99999999999", "-c 99999999999: llama-server would not take that value."),
        ("-ctk q9", "-ctk q9: llama-server would not take that value."),
        ("-ot (=CPU", "-ot (=CPU: llama-server would not take that value."),
        ("-ts 1,x", "-ts 1,x: llama-server would not take that value."),
        ("-np", "-np has no value."),
    ],
)
def test_a_bad_value_is_one_sentence(words, said):
    with pytest.raises(FlagError) as error:
        load_of(words.split())
    assert str(error.value) == said
