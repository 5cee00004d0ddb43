"""Models of one file and of several."""

from __future__ import annotations

import pytest

from supervisor_app.library.model import ModelError, read_model
from tests.unit.library.raw import entry, header, tensor

NAME = "big-{:05}-of-00003.gguf"


@pytest.fixture
def parts(tmp_path):
    """Three parts: the first holds the metadata, each a tensor of 1 kB."""
    for number in range(3):
        entries = [entry("split.count", 3), entry("split.no", number)]
        if number == 0:
            entries.append(entry("general.architecture", "llama"))
        data = header(*entries, tensor(f"blk.{number}.w"), tensors=1, entries=len(entries))
        data += bytes(-len(data) % 32 + 1024)
        (tmp_path / NAME.format(number + 1)).write_bytes(data)
    return tmp_path


def test_the_parts_of_a_model_are_one_model(parts):
    model = read_model(parts / NAME.format(1))
    assert model.architecture == "llama"
    assert [each.name for each in model.tensors] == ["blk.0.w", "blk.1.w", "blk.2.w"]
    assert model.weights == 3 * 1024
    assert model.file_size == sum(path.stat().st_size for path in parts.iterdir())


def test_another_part_than_the_first_is_refused_as_by_llama_server(parts):
    with pytest.raises(
        ModelError, match="is not the first of its 3 parts: name the one with -00001-of- in it"
    ):
        read_model(parts / NAME.format(2))


def test_a_part_that_is_missing_is_named(parts):
    (parts / NAME.format(3)).unlink()
    with pytest.raises(
        ModelError, match=r"big-00003-of-00003.gguf cannot be read: No such file or directory\."
    ):
        read_model(parts / NAME.format(1))


def test_a_first_part_under_another_name_finds_no_others(parts):
    path = (parts / NAME.format(1)).rename(parts / "big.gguf")
    with pytest.raises(ModelError, match=r"is not called …-00001-of-00003\.gguf"):
        read_model(path)


def test_a_number_of_parts_that_makes_no_sense_is_refused(tmp_path):
    path = tmp_path / "x-00001-of-99999.gguf"
    path.write_bytes(header(entry("split.count", 65535), entries=1))
    with pytest.raises(ModelError, match="claims to be one of 65535 parts"):
        read_model(path)


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        read_model(tmp_path)
