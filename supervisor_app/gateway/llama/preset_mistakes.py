"""Mistakes in the description of presets: which key, which value, what to do. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import chain
from typing import TYPE_CHECKING, Any

from supervisor_app.gateway.llama.presets import ANSWERS, LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator

Mistake = tuple[tuple[str, ...], str]
"""Path of a key within the presets, and a sentence without the path."""

TABLES = ("set", "default", "cap")
KEYS = (*TABLES, "remove", "system_prefix")
LONGEST_NAME = 200
"""Characters."""
LARGEST = 256 * 1024
"""Bytes of JSON of all presets of a server: gateways read them anew with each change."""
DEEPEST = 20
"""Levels of a value. A request may have 200 (`nesting`)."""
LARGEST_CAP = 2**31
_SHOWN = 80
_INTEGERS = range(-(2**63), 2**64)
"""Integers that JSON's readers take."""
_OWN = dict.fromkeys(("messages", "prompt", "input", "system", "instructions"), "use system_prefix")
_STREAM = dict.fromkeys(
    ("stream", "stream_options"), "a client gets its answer in the form that it asked for"
)
UNTOUCHED = {**_OWN, **_STREAM, "model": "it says which preset is asked for"}
"""Keys that no preset may change, and why or what instead."""
_UNSTORED = re.compile("[\0\ud800-\udfff]")
"""A NUL, and half a surrogate pair: no database takes them."""


def mistakes_in(described: Any) -> Iterator[Mistake]:
    """Yield what is wrong with presets by name, as the file or the admin has them."""
    if not isinstance(described, Mapping):
        yield (), _must(described, 'presets by name, such as {"brief": {"set": {"temperature": 0.2}}}')
        return
    found = list(chain.from_iterable(_in_preset(name, said) for name, said in described.items()))
    yield from found
    if not found and (size := len(json.dumps(described))) > LARGEST:
        yield (), f"they have {size} bytes as JSON, and {LARGEST} are the most. Shorten the longest text."


def _in_preset(name: str, said: Any) -> Iterator[Mistake]:
    if not name.strip() or name != name.strip() or len(name) > LONGEST_NAME or _UNSTORED.search(name):
        yield (name,), f"this is no name. Use up to {LONGEST_NAME} characters, without spaces at its ends."
    if not isinstance(said, Mapping):
        yield (name,), _must(said, 'a table, such as {"set": {"temperature": 0.2}}')
        return
    for key, value in said.items():
        at = (name, key)
        if key in TABLES:
            yield from _in_table(at, value)
        elif key == "remove":
            yield from _in_remove(at, value)
        elif key == "system_prefix":
            yield from _in_prefix(at, value)
        else:
            close = get_close_matches(key, KEYS, 1)
            remedy = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(KEYS)}."
            yield at, f"there is no such key. {remedy}"
    yield from _set_and_default(name, said)


def _in_table(at: tuple[str, ...], value: Any) -> Iterator[Mistake]:
    if not isinstance(value, Mapping):
        example = '{"max_tokens": 512}' if at[-1] == "cap" else '{"temperature": 0.2}'
        yield at, _must(value, f"a table of fields of a request, such as {example}")
        return
    for key, inner in value.items():
        yield from _in_key((*at, key))
        if at[-1] != "cap":
            yield from _in_value((*at, key), inner)
        elif isinstance(inner, bool) or not isinstance(inner, int | float) or not 0 <= inner < LARGEST_CAP:
            yield (*at, key), _must(inner, "the largest number that is let through, such as 512")
    for names in (LIMITS, ANSWERS):
        if len(twice := [name for name in names if name in value]) > 1:
            yield (*at, twice[1]), f"this is {twice[0]} in another spelling. Leave one of them."


def _in_remove(at: tuple[str, ...], value: Any) -> Iterator[Mistake]:
    if not isinstance(value, list) or not all(isinstance(key, str) and key for key in value):
        yield at, _must(value, 'a list of fields of a request, such as ["temperature"]')
        return
    for key in value:
        for _, what in _in_key((*at, key)):
            yield at, f"{key}: {what}"


def _in_prefix(at: tuple[str, ...], value: Any) -> Iterator[Mistake]:
    if not isinstance(value, str) or not value.strip():
        yield at, _must(value, "a text that is not empty")
    else:
        yield from _in_value(at, value)


def _in_key(at: tuple[str, ...]) -> Iterator[Mistake]:
    if at[-1] in UNTOUCHED:
        yield at, f"no preset changes this field: {UNTOUCHED[at[-1]]}."
    elif not at[-1] or _UNSTORED.search(at[-1]):
        yield at, "this is no name of a field. Write it as llama-server knows it."


def _in_value(at: tuple[str, ...], value: Any, depth: int = 1) -> Iterator[Mistake]:
    """Yield what keeps a value from being sent as JSON."""
    if depth > DEEPEST:
        yield at, f"it is nested deeper than {DEEPEST} levels. Flatten it."
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _in_value((*at, str(key)), inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _in_value(at, inner, depth + 1)
    elif isinstance(value, str):
        if _UNSTORED.search(value):
            yield at, "it contains a NUL or half a surrogate pair. Leave that character out."
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield at, _must(value, "a number that JSON has")
    elif isinstance(value, int):
        if value not in _INTEGERS:
            yield at, _must(value, "a number of at most 64 bits")
    elif value is not None:
        yield at, _must(value, "what JSON has: text, a number, true, false, a list or a table")


def _set_and_default(name: str, said: Mapping[str, Any]) -> Iterator[Mistake]:
    fixed, default = said.get("set"), said.get("default")
    if isinstance(fixed, Mapping) and isinstance(default, Mapping):
        for key in default.keys() & fixed.keys():
            if not (isinstance(fixed[key], Mapping) and isinstance(default[key], Mapping)):
                yield (name, "default", key), "set has it, too, and always wins. Leave one of them."


def _must(value: Any, remedy: str) -> str:
    shown = repr(value)
    shown = f"{shown[:_SHOWN]}…" if len(shown) > _SHOWN else shown
    return f"it is {shown}, and must be {remedy}."
