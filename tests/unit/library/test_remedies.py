"""Flags that are written down again, and changes of them with which a server would need less."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from supervisor_app.library.flags import files_of, load_of, words_of
from supervisor_app.library.model import read_model
from supervisor_app.library.remedies import remedies
from tests.shapes import dense


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("-m a.gguf --port 1 --metrics", ""),
        ("-m a.gguf --ctx-size 8192 --parallel 2", "-c 8192 -np 2"),
        ("-np 2 -c 4096 -c 8192 -m a.gguf -b 2048 -fa on", "-c 8192 -np 2"),
        ("-m a.gguf --cache-type-k q8_0 -fa off -ngl 20", "-fa off -ngl 20 -ctk q8_0"),
        ("-m a.gguf -kvu --cpu-moe -dev none -sm none", "-cmoe -dev none -sm none -kvu"),
        ("-m a.gguf -ts 3/1 -ot exps=CPU -fit off", "-fit off -ot exps=CPU -ts 3,1"),
        ("-m a.gguf -md d.gguf --spec-draft-ngl 3 -ctkd q8_0", "-ngld 3 -ctkd q8_0"),
    ],
)
def test_flags_that_matter_for_memory_are_written_in_one_way(said, words):
    load = load_of(shlex.split(said))
    assert words_of(load) == tuple(words.split())
    assert words_of(load_of(words_of(load))) == words_of(load)


def test_the_files_that_are_loaded_are_the_model_and_what_belongs_to_it():
    load = load_of(["-m", "a", "-mm", "p", "-md", "d", "--lora", "x,y", "--lora-scaled", "z:0.5"])
    assert files_of(load) == tuple(map(Path, ("a", "p", "d", "x", "y", "z")))


@pytest.mark.parametrize(
    ("said", "shrinks"), [("", True), ("-c 512", False), ("-ngl 9", False), ("-fit off", False)]
)
def test_llama_server_takes_less_by_itself_only_of_what_nobody_has_set(said, shrinks):
    assert load_of(["-m", "a", *said.split()]).shrinks == shrinks


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Trained for 4096 tokens."""
    return read_model(dense(tmp_path_factory.mktemp("models") / "dense.gguf"))


@pytest.mark.parametrize(
    ("said", "flags"),
    [
        ("", ["-c 2048", "-c 1024", "-np 2", "-np 1", "-ctk q8_0 -ctv q8_0"]),
        ("-c 3000", ["-c 1024", "-np 2", "-np 1", "-ctk q8_0 -ctv q8_0"]),
        ("-np 2", ["-c 4096", "-c 2048", "-np 1", "-ctk q8_0 -ctv q8_0"]),
        ("-np 1 -c 1024", ["-ctk q8_0 -ctv q8_0"]),
        ("-np 1 -c 1024 -ctk q8_0 -ctv q8_0", []),
        ("-np 1 -c 1024 -fa off", []),
    ],
)
def test_contexts_slots_and_caches_are_reduced_as_far_as_there_is_something(model, said, flags):
    load = load_of(["-m", "dense.gguf", *said.split()])
    found = dict(remedies(model, load))
    assert list(found) == flags
    for words, changed in found.items():
        assert changed == load_of(["-m", "dense.gguf", *said.split(), *words.split()])
