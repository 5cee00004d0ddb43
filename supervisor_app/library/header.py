"""The header of a GGUF file: its metadata and where its tensors lie. Nothing of the weights is read.

The package `gguf` keeps every token as an array of NumPy: 28 s for a vocabulary of 200 000 tokens and 446 000
merges, which are passed over here in 30 ms. Of those 12 MB a window is in memory: to fill new pages with
all of them takes half as long again. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

from supervisor_app.common.words import counted, size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAGIC = b"GGUF"
VERSIONS = (2, 3)
HEADER_LIMIT = 64 * 1024 * 1024
"""Bytes. The largest vocabulary known, of 200 000 tokens and 446 000 merges, has 12 million."""
KEPT_ITEMS = 4096
"""A list of more numbers is no list of layers; its length alone is kept, as of every list of strings."""
MOST_ENTRIES = 2**16
MOST_TENSORS = 2**18
"""Real ones have some hundred entries, and at most 50 000 tensors, where each expert has its own."""
MAX_DIMENSIONS = 4
_WINDOW = 256 * 1024
"""Bytes read at once, which the caches of a processor hold."""
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    _BOOL: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32, _U64 = _SCALARS[4], _SCALARS[10]
_TENSORS = [struct.Struct(f"<{dimensions}QIQ") for dimensions in range(MAX_DIMENSIONS + 1)]
"""Shape, type and place of a tensor, by how many dimensions it has."""
_DEFAULT_ALIGNMENT = 32
_SHORT, _BLOCK = 32, 64
_SHORT_STRINGS = re.compile(
    b"(?s:(?:%b){%d}+)"
    % (b"|".join(re.escape(_U64.pack(length)) + b".{%d}" % length for length in range(_SHORT)), _BLOCK)
)
"""Pattern of a block of short strings in a row: of each its length, and as many bytes of any kind.

The engine of regular expressions takes half the time that the interpreter needs to step over each.
"""


class HeaderError(ValueError):
    """The file is no GGUF that llama-server could read; the text says why, as a part of a sentence."""


@dataclass(frozen=True)
class Length:
    """A list of which the length alone is kept."""

    items: int


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """`size` in bytes, as it lies in the file: with the padding up to the next one."""

    name: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of a file. Values of `metadata`: numbers, strings, short tuples of numbers, or a Length."""

    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    header_size: int
    file_size: int


def read_header(path: Path) -> Header:
    """Read the header of one file, in time and memory that HEADER_LIMIT bounds.

    Raises HeaderError, and OSError if the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        reader = _Reader(file.fileno(), os.fstat(file.fileno()).st_size)
        return reader.header()


class _Reader:
    """A position in a file, and the bytes around it: a window that moves on as more is needed."""

    def __init__(self, descriptor: int, file_size: int) -> None:
        self._descriptor = descriptor
        self._file_size = file_size
        self._data = b""
        self._base = 0
        """Position in the file at which the window begins."""
        self._at = 0
        """Position in the window, and perhaps beyond its end."""

    def header(self) -> Header:
        self._check_kind()
        tensors, entries = self._u64(), self._u64()
        for count, most, what in (
            (tensors, MOST_TENSORS, "tensors"),
            (entries, MOST_ENTRIES, "metadata entries"),
        ):
            if count > most:
                raise HeaderError(f"it claims {count} {what}, more than any model has")
        metadata = dict(self._entry() for _ in range(entries))
        infos = [self._tensor() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise HeaderError(f"its alignment of {alignment} bytes is none")
        header_size = self._base + self._at
        start = -(-header_size // alignment) * alignment
        return Header(
            metadata=metadata,
            tensors=_with_sizes(infos, max(0, self._file_size - start)),
            header_size=header_size,
            file_size=self._file_size,
        )

    @property
    def _most(self) -> int:
        """Bytes that the header may have."""
        return min(self._file_size, HEADER_LIMIT)

    def _check_kind(self) -> None:
        if self._file_size == 0:
            raise HeaderError("it is empty")
        self._need(len(MAGIC))
        if not self._data.startswith(MAGIC):
            raise HeaderError("it does not begin with GGUF")
        self._at = len(MAGIC)
        version = self._u32()
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
            raise HeaderError(
                "its numbers are big-endian, for another kind of machine"
                if swapped
                else f"it has version {version} of the format, and llama-server reads 2 and 3"
            )

    def _entry(self) -> tuple[str, Any]:
        key = self._string()
        try:
            return key, self._value(self._u32())
        except HeaderError as error:
            raise HeaderError(f"{error} ({key[:80]})") from None

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._list()
        return self._number(_scalar(kind))

    def _list(self) -> tuple[Any, ...] | Length:
        kind, count = self._u32(), self._u64()
        if kind == _ARRAY:
            raise HeaderError("it has lists in lists, which llama-server does not read")
        width = _U64.size if kind == _STRING else _scalar(kind).size
        if count * width > self._most:
            raise HeaderError(f"it claims a list of {count} items, more than it has room for")
        if kind == _STRING:
            self._skip_strings(count)
            return Length(count)
        if count > KEPT_ITEMS:
            self._at += count * width
            self._need(0)
            return Length(count)
        scalar = _scalar(kind)
        return tuple(self._number(scalar) for _ in range(count))

    def _skip_strings(self, count: int) -> None:
        """Step over hundreds of thousands of tokens, most of which are short."""
        while count:
            block = _SHORT_STRINGS.match(self._data, self._at) if count >= _BLOCK else None
            if block is None:
                self._skip_one_by_one(min(count, _BLOCK))
            else:
                self._at = block.end()
            count -= min(count, _BLOCK)

    def _skip_one_by_one(self, count: int) -> None:
        at, length_at, data = self._at, _U64.unpack_from, self._data
        for _ in repeat(None, count):
            try:
                at += length_at(data, at)[0] + 8
            except (struct.error, OverflowError):  # beyond the window
                self._at = at
                self._need(_U64.size)
                at, data = self._at, self._data
                at += length_at(data, at)[0] + 8
        self._at = at
        self._need(0)

    def _tensor(self) -> tuple[str, tuple[int, ...], int]:
        name, dimensions = self._string(), self._u32()
        if dimensions > MAX_DIMENSIONS:
            raise HeaderError(f"its tensor {name[:80]!r} has {dimensions} dimensions; at most 4 are read")
        # Its type tells nothing that is needed: how many bytes it has is seen by where the next one begins.
        *shape, _, start = self._numbers(_TENSORS[dimensions])
        return name, tuple(shape), start

    def _string(self) -> str:
        length = self._u64()
        self._need(length)
        start, self._at = self._at, self._at + length
        return self._data[start : self._at].decode("utf-8", "replace")

    def _u32(self) -> int:
        return int(self._number(_U32))

    def _u64(self) -> int:
        return int(self._number(_U64))

    def _number(self, scalar: struct.Struct) -> Any:
        return self._numbers(scalar)[0]

    def _numbers(self, layout: struct.Struct) -> tuple[Any, ...]:
        self._need(layout.size)
        start, self._at = self._at, self._at + layout.size
        return layout.unpack_from(self._data, start)

    def _need(self, count: int) -> None:
        """Have so many bytes in the window from the position on; 0: the file reaches to it."""
        end = self._at + count
        if end <= len(self._data):
            return
        if self._base + end > self._file_size:
            raise HeaderError(f"it ends within its header, after {counted(self._file_size, 'byte')}")
        if self._base + end > HEADER_LIMIT:
            raise HeaderError(f"its header is larger than {size(HEADER_LIMIT)}")
        self._base, self._at = self._base + self._at, 0
        wanted = max(count, min(_WINDOW, self._most - self._base))
        self._data = b""
        while len(self._data) < wanted and (chunk := self._read(wanted - len(self._data))):
            self._data += chunk
        if len(self._data) < count:
            read = self._base + len(self._data)
            raise HeaderError(f"it ends within its header, after {counted(read, 'byte')}")

    def _read(self, count: int) -> bytes:
        """Read on behind the window; less than `count` at the end of the file."""
        return os.pread(self._descriptor, count, self._base + len(self._data))


def _scalar(kind: int) -> struct.Struct:
    if kind not in _SCALARS:
        raise HeaderError(f"it has a value of the unknown type {kind}")
    return _SCALARS[kind]


def _with_sizes(infos: list[tuple[str, tuple[int, ...], int]], data_size: int) -> tuple[Tensor, ...]:
    """Give each tensor its size: it reaches to the next one, the last one to the end of the file.

    So no table of quantizations has to be kept up with.
    """
    starts = sorted({start for _, _, start in infos})
    ends = dict(zip(starts, [*starts[1:], data_size], strict=True)) if starts else {}
    if starts and starts[-1] >= data_size > 0 and starts[-1] > 0:
        raise HeaderError(
            f"its weights begin further on than it has data, {size(data_size)}: it is incomplete"
        )
    return tuple(Tensor(name=name, shape=shape, size=ends[start] - start) for name, shape, start in infos)
