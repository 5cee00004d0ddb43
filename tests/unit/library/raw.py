"""GGUF headers byte by byte, right and wrong."""

from __future__ import annotations

import struct
from typing import Any

STRING, ARRAY, U32, U64 = 8, 9, 4, 10


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def text(said: str) -> bytes:
    return u64(len(said.encode())) + said.encode()


def entry(key: str, value: Any) -> bytes:
    """A key with a string, a number, or a list of strings or numbers."""
    match value:
        case str():
            return text(key) + u32(STRING) + text(value)
        case int():
            return text(key) + u32(U32) + u32(value)
    if value and isinstance(value[0], str):
        return text(key) + u32(ARRAY) + u32(STRING) + u64(len(value)) + b"".join(map(text, value))
    return text(key) + u32(ARRAY) + u32(U32) + u64(len(value)) + b"".join(map(u32, value))


def tensor(name: str, shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + u32(len(shape)) + b"".join(map(u64, shape)) + u32(kind) + u64(offset)


def header(
    *rest: bytes, tensors: int = 0, entries: int = 0, version: int = 3, magic: bytes = b"GGUF"
) -> bytes:
    return magic + u32(version) + u64(tensors) + u64(entries) + b"".join(rest)
