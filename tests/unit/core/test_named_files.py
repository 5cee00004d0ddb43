"""The files that a command line names, and what a look at them shows."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor_app.core.diagnosis.named_files import (
    NamedFile,
    bad_files,
    flag_of,
    is_router,
    look_at,
    named_files,
    parts_of,
)
from supervisor_app.core.status import FailureKind
from supervisor_app.core.testing import make_spec


def spec_of(folder, *args, model="m.gguf"):
    return replace(make_spec(args=("-m", str(model), *args)), model_path=model, cwd=str(folder))


def names(spec):
    return [(file.flag, file.path.name) for file in named_files(spec)]


def test_flags_name_files():
    spec = spec_of(
        "/srv", "--mmproj", "p.gguf", "--lora", "a.gguf,b.gguf", "--api-key-file", "/etc/keys", "-c", "5"
    )
    assert named_files(spec)[1] == NamedFile(flag="--mmproj", path=Path("/srv/p.gguf"), gguf=True)
    assert names(spec) == [
        ("-m", "m.gguf"),
        ("--mmproj", "p.gguf"),
        ("--lora", "a.gguf"),
        ("--lora", "b.gguf"),
        ("--api-key-file", "keys"),
    ]
    assert flag_of(spec, Path("/etc/keys")) == "--api-key-file"
    assert flag_of(spec, Path("/etc/passwd")) == ""


def test_a_flag_may_be_spelled_with_underscores():
    spec = spec_of("/srv", "--api_key_file", "/etc/my_keys", "--models_preset", "list.ini")
    assert names(spec)[1:] == [("--api-key-file", "my_keys"), ("--models-preset", "list.ini")]
    assert is_router(spec.args)


def test_a_scaled_adapter_has_a_factor_behind_it():
    spec = spec_of("/srv", "--lora-scaled", "a.gguf:0.5,b.gguf")
    assert names(spec)[1:] == [("--lora-scaled", "a.gguf"), ("--lora-scaled", "b.gguf")]


def test_a_router_has_no_model_of_its_own():
    spec = spec_of("/srv", "--models-dir", "models", model=None)
    assert names(spec) == [("--models-dir", "models")]
    assert named_files(spec)[0].folder
    assert is_router(spec.args)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("m-00001-of-00003.gguf", 3),
        ("m-00000-of-00000.gguf", 1),
        ("m-00001-of-99999.gguf", 1),
        ("m.gguf", 1),
    ],
)
def test_a_model_may_have_parts(name, count):
    parts = parts_of(Path("/m", name))
    assert len(parts) == count
    if count == 3:
        assert parts[1] == Path("/m/m-00002-of-00003.gguf")


def test_a_whole_set_is_fine(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF and more")
    (tmp_path / "t.jinja").write_text("")
    (tmp_path / "models").mkdir()
    spec = spec_of(tmp_path, "--chat-template-file", "t.jinja", "--path", "models")
    assert bad_files(spec) == []


@pytest.mark.parametrize(
    ("make", "kind", "detail"),
    [
        (lambda path: None, FailureKind.MODEL_MISSING, "does not exist"),
        (lambda path: path.write_bytes(b""), FailureKind.MODEL_CORRUPT, "is empty"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html>"), FailureKind.MODEL_CORRUPT, "is no GGUF file"),
        (lambda path: path.mkdir(), FailureKind.MODEL_UNREADABLE, "is a folder"),
        (lambda path: path.symlink_to(path), FailureKind.MODEL_UNREADABLE, "cannot be read: Too many levels"),
    ],
)
def test_a_fault_of_a_model_file_is_told(tmp_path, make, kind, detail):
    path = tmp_path / "m.gguf"
    make(path)
    (bad,) = bad_files(spec_of(tmp_path))
    assert (bad.kind, bad.file.path) == (kind, path)
    assert f"{path} {detail}" in bad.detail


def test_a_fault_of_another_file_names_its_flag(tmp_path):
    (tmp_path / "file").write_text("")
    spec = spec_of(tmp_path, "--ssl-key-file", "none", "--path", "file", "--grammar-file", ".", model=None)
    bad = bad_files(spec)
    assert [each.detail.partition(" ")[2] for each in bad] == [
        "does not exist",
        "is not a folder",
        "is a folder",
    ]
    assert {each.kind for each in bad} == {FailureKind.BAD_ARGUMENT}


def test_a_file_behind_a_file_does_not_exist(tmp_path):
    (tmp_path / "file").write_text("")
    assert bad_files(spec_of(tmp_path, model="file/m.gguf"))[0].kind is FailureKind.MODEL_MISSING


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "keys")
    assert look_at(NamedFile(flag="--api-key-file", path=tmp_path / "keys")) is None


def test_nothing_is_said_of_a_file_that_we_lack_means_to_look_at(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError(24, "Too many open files")

    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(Path, "open", fails)
    assert bad_files(spec_of(tmp_path)) == []
