"""Models in directories: what belongs together, and what their headers say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor_app.library.model import part_of
from supervisor_app.library.quantization import named_quantization, numbered_quantization
from supervisor_app.library.shelf import Stored, describe, models_in, shelved
from tests.unit.library.raw import entry, header, tensor


def stored(path: str) -> Stored:
    return Stored(path=Path(path), size=10, modified=1.0, mark=path)


def written(path: Path, *entries: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    said = (entry("general.architecture", "llama"), *entries)
    path.write_bytes(
        header(*said, tensor("token_embd.weight", (4, 8)), tensors=1, entries=len(said)) + bytes(256)
    )
    return path


@pytest.mark.parametrize(
    ("name", "quantization"),
    [
        ("Qwen3-4B-Q4_K_M.gguf", "Q4_K_M"),
        ("Qwen3-4B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("gemma-3-12b-it-q6_k.gguf", "Q6_K"),
        ("model.IQ2_XXS.gguf", "IQ2_XXS"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("mmproj-BF16.gguf", "BF16"),
        ("model-fp16.gguf", "F16"),
        ("Q8_0/llama-Q8_0-00001-of-00002.gguf", "Q8_0"),
        ("phi-4.gguf", ""),
        ("q4model.gguf", ""),
    ],
)
def test_a_name_tells_its_quantization(name, quantization):
    assert named_quantization(name) == quantization


@pytest.mark.parametrize(("number", "name"), [(0, "F32"), (15, "Q4_K_M"), (32, "BF16"), (99, ""), ("15", "")])
def test_a_number_of_the_metadata_tells_its_quantization(number, name):
    assert numbered_quantization(number) == name


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("a-00002-of-00003.gguf", ("a", 2, 3)),
        ("a-00004-of-00003.gguf", None),
        ("a-00000-of-00003.gguf", None),
        ("a.gguf", None),
    ],
)
def test_a_name_tells_which_part_it_is(name, part):
    assert part_of(name) == part


def test_parts_are_one_model_in_their_order_and_what_is_missing_is_counted():
    (model,) = shelved([stored("/m/a-00003-of-00003.gguf"), stored("/m/a-00001-of-00003.gguf")])
    assert [file.path.name for file in model.files] == ["a-00001-of-00003.gguf", "a-00003-of-00003.gguf"]
    assert (model.size, model.missing) == (20, 1)


def test_a_projector_belongs_to_the_models_of_its_directory():
    models = shelved(map(stored, ["/m/v/a.gguf", "/m/v/mmproj-F16.gguf", "/m/b.gguf"]))
    beside = {model.path.name: [file.path.name for file in model.projectors] for model in models}
    assert beside == {"a.gguf": ["mmproj-F16.gguf"], "b.gguf": []}


def test_a_projector_without_a_model_is_listed_by_itself():
    (model,) = shelved([stored("/m/mmproj-F16.gguf")])
    assert model.path.name == "mmproj-F16.gguf"


def test_a_tree_is_walked_as_deep_as_asked_and_no_link_to_a_directory_is_followed(tmp_path):
    written(tmp_path / "a.gguf")
    written(tmp_path / "owner" / "repo" / "b.gguf")
    written(tmp_path / ".hidden" / "c.gguf")
    written(tmp_path / ".d.gguf")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "pipe.gguf").mkdir()
    os.mkfifo(tmp_path / "fifo.gguf")
    (tmp_path / "gone.gguf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert {model.path.name for model in models_in(tmp_path)} == {"a.gguf", "b.gguf"}
    assert {model.path.name for model in models_in(tmp_path, deepest=0)} == {"a.gguf"}
    assert models_in(tmp_path / "nowhere") == []


def test_a_tree_of_too_many_files_is_not_walked_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("supervisor_app.library.shelf.MOST_FILES", 3)
    for number in range(9):
        written(tmp_path / f"{number}" / "model.gguf")
    assert len(models_in(tmp_path)) <= 3


def test_a_header_tells_name_architecture_parameters_and_context(tmp_path):
    written(
        tmp_path / "a.gguf",
        entry("general.name", "A Llama"),
        entry("general.file_type", 15),
        entry("llama.context_length", 4096),
    )
    said = describe(models_in(tmp_path)[0])
    assert (said.name, said.architecture, said.quantization) == ("A Llama", "llama", "Q4_K_M")
    assert (said.parameters, said.context, said.problem) == (32, 4096, "")


def test_a_file_without_a_name_goes_by_that_of_the_file(tmp_path):
    written(tmp_path / "tiny-q8_0.gguf", entry("llama.context_length", "long"))
    said = describe(models_in(tmp_path)[0])
    assert (said.name, said.quantization, said.context) == ("tiny-q8_0", "Q8_0", 0)


def test_a_file_that_is_no_model_is_listed_with_the_reason(tmp_path):
    (tmp_path / "bad-Q4_0.gguf").write_bytes(b"nonsense")
    said = describe(models_in(tmp_path)[0])
    assert (said.name, said.quantization) == ("bad-Q4_0", "Q4_0")
    assert "does not begin with GGUF" in said.problem


def test_a_model_with_missing_parts_says_how_many(tmp_path):
    written(tmp_path / "a-Q4_0-00001-of-00003.gguf")
    said = describe(models_in(tmp_path)[0])
    assert (said.name, said.problem) == ("a-Q4_0", "2 of its 3 parts are missing.")


def test_another_file_at_the_same_place_has_another_mark(tmp_path):
    path = written(tmp_path / "a.gguf")
    before = models_in(tmp_path)[0].mark
    assert models_in(tmp_path)[0].mark == before
    path.unlink()
    written(path, entry("general.name", "another"))
    assert models_in(tmp_path)[0].mark != before
