"""Headers of GGUF files: what is read, how much of the file, and what becomes of broken and hostile ones."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor_app.library import header as module
from supervisor_app.library.header import HeaderError, Length, read_header
from tests.shapes import dense
from tests.unit.library.raw import ARRAY, STRING, U32, entry, header, tensor, text, u32, u64

GIB = 2**30


@pytest.fixture
def read(tmp_path):
    """Read a header from these bytes; the file goes on with a hole up to `size`."""

    def read(data: bytes, size: int = 0):
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        if size:
            os.truncate(path, size)
        return read_header(path)

    return read


def test_metadata_and_tensors_of_a_real_file(tmp_path):
    path = dense(tmp_path / "model.gguf", embd=64, heads=4, kv=2, blocks=3, ff=128, vocabulary=500)
    found = read_header(path)
    assert found.metadata["general.architecture"] == "llama"
    assert found.metadata["llama.block_count"] == 3
    assert found.metadata["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)
    sizes = {each.name: each.size for each in found.tensors}
    assert sizes["token_embd.weight"] == 500 * 64 * 2
    assert sizes["blk.2.ffn_up.weight"] == 128 * 64 * 2
    assert found.file_size == path.stat().st_size


def test_long_lists_and_words_are_kept_as_their_length(read):
    found = read(
        header(
            entry("words", ["a", "", "c" * 300]),
            entry("layers", [1, 2, 3]),
            entry("scores", [7] * 5000),
            entry("last", "x"),
            entries=4,
        )
    )
    assert found.metadata == {
        "words": Length(3),
        "layers": (1, 2, 3),
        "scores": Length(5000),
        "last": "x",
    }


@pytest.mark.parametrize("every", [1, 50, 63, 64, 65, 1000], ids="a long word in {}".format)
def test_words_are_passed_over_whatever_their_lengths_and_bytes(read, every):
    words = ["\n" * 400 if number % every == 0 else "\0" * (number % 40) for number in range(1, 700)]
    found = read(header(entry("tokens", words), entry("behind", "them"), entries=2))
    assert found.metadata == {"tokens": Length(699), "behind": "them"}


def test_a_tensor_reaches_to_the_next_one_and_the_last_to_the_end(read):
    data = header(tensor("b", offset=4096), tensor("a", offset=0), tensors=2)
    start = -(-len(data) // 32) * 32
    found = read(data, start + 6000)
    assert {each.name: each.size for each in found.tensors} == {"a": 4096, "b": 1904}


@pytest.mark.skipif(sys.platform != "linux", reason="counts what is read as Linux does")
def test_only_the_header_of_60_gigabytes_is_read(read):
    vocabulary = entry("tokenizer.ggml.tokens", [f"▁word{number}" for number in range(150_000)])
    data = header(vocabulary, tensor("token_embd.weight"), tensors=1, entries=1)
    before, began = psutil.Process().io_counters().read_chars, time.process_time()
    found = read(data, 60 * GIB)
    print(f"{len(data) / 2**20:.1f} MiB of header in {(time.process_time() - began) * 1000:.0f} ms of CPU")
    assert psutil.Process().io_counters().read_chars - before < 5 * len(data)
    assert found.header_size == len(data)
    assert sum(each.size for each in found.tensors) == pytest.approx(60 * GIB, rel=1e-3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"GG", "it ends within its header, after 2 bytes"),
        (b"PK\x03\x04" + bytes(100), "it does not begin with GGUF"),
        (header(version=1), "it has version 1 of the format, and llama-server reads 2 and 3"),
        (header(version=0x03000000), "its numbers are big-endian, for another kind of machine"),
        (header(entries=2**63), f"it claims {2**63} metadata entries, more than any model has"),
        (header(tensors=2**64 - 1), f"it claims {2**64 - 1} tensors, more than any model has"),
        (header(text("key") + u32(99), entries=1), "it has a value of the unknown type 99 (key)"),
        (
            header(text("key") + u32(STRING) + u64(2**63), entries=1),
            "it ends within its header, after 47 bytes (key)",
        ),
        (
            header(text("key") + u32(ARRAY) + u32(U32) + u64(2**63), entries=1),
            f"it claims a list of {2**63} items, more than it has room for (key)",
        ),
        (
            header(text("key") + u32(ARRAY) + u32(STRING) + u64(2) + text("a") + u64(2**64 - 1), entries=1),
            "it ends within its header, after 68 bytes (key)",
        ),
        (
            header(text("key") + u32(ARRAY) + u32(ARRAY) + u64(1), entries=1),
            "it has lists in lists, which llama-server does not read (key)",
        ),
        (
            header(tensor("t", (1,) * 9), tensors=1),
            "its tensor 't' has 9 dimensions; at most 4 are read",
        ),
        (
            header(entry("general.alignment", 0), entries=1),
            "its alignment of 0 bytes is none",
        ),
    ],
)
def test_a_broken_one_is_one_sentence(read, data, said):
    with pytest.raises(HeaderError) as error:
        read(data)
    assert str(error.value) == said


def test_every_beginning_of_a_good_one_is_one_sentence(read):
    data = header(entry("key", "value"), entry("list", ["a", "b"]), tensor("t"), tensors=1, entries=2)
    for length in range(len(data)):
        with pytest.raises(HeaderError):
            read(data[:length])


def test_weights_that_a_download_has_not_brought_yet_are_missed(read):
    data = header(tensor("a"), tensor("b", offset=10_000), tensors=2)
    with pytest.raises(HeaderError, match="it is incomplete"):
        read(data, len(data) + 500)


def test_a_header_without_an_end_is_given_up(read, monkeypatch):
    monkeypatch.setattr(module, "HEADER_LIMIT", 2**20)
    hostile = header(text("key") + u32(ARRAY) + u32(STRING) + u64(2**17 - 1), entries=1)
    with pytest.raises(HeaderError, match=r"its header is larger than 1.0 MiB \(key\)"):
        read(hostile + text("x") * 10, 60 * GIB)


def test_a_file_that_shrinks_while_it_is_read_ends_there(read, monkeypatch):
    fstat = os.fstat
    monkeypatch.setattr(module.os, "fstat", lambda file: SimpleNamespace(st_size=fstat(file).st_size + 100))
    with pytest.raises(HeaderError, match="it ends within its header, after 24 bytes"):
        read(header(entries=1))


SEEDS = header(
    entry("general.architecture", "llama"),
    entry("llama.block_count", 2),
    entry("llama.attention.head_count_kv", [1, 2]),
    entry("tokenizer.ggml.tokens", ["a", "b", "c"]),
    tensor("blk.0.w", (4, 4)),
    tensor("output.weight", (8,), offset=64),
    tensors=2,
    entries=4,
)


@pytest.mark.parametrize("window", [1, 7, 8, 50])
def test_a_header_larger_than_what_is_read_at_once_is_read_all_the_same(read, monkeypatch, window):
    whole = read(SEEDS, 1000)
    monkeypatch.setattr(module, "_WINDOW", window)
    assert read(SEEDS, 1000) == whole


@given(st.lists(st.tuples(st.integers(0, len(SEEDS) - 1), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_header_with_wrong_bytes_is_read_or_refused_and_nothing_else(tmp_path, changes):
    data = bytearray(SEEDS)
    for place, byte in changes:
        data[place] = byte
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(data) + bytes(256))
    with suppress(HeaderError):
        read_header(path)
