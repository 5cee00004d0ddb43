"""Presets: names under which one model answers differently, because requests for them are changed. Pure.

A preset changes the body's JSON in this order: `remove`, `default`, `set`, `cap`, `system_prefix`. Objects,
such as `chat_template_kwargs`, are merged key by key. All other values stay as the client wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from supervisor_app.gateway.llama.hints import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")
"""Spellings of the one limit of an answer. Which of them counts depends on the path (seen with b11669)."""
ANSWERS = ("n", "n_cmpl")
_SYSTEM = ("system", "developer")
_BOM = b"\xef\xbb\xbf"
_GAP = "\n\n"

_object = msgspec.json.Decoder(dict[str, Raw])
_list = msgspec.json.Decoder(list[Raw])
_text = msgspec.json.Decoder(str)
Fields = dict[str, Raw]


class PresetError(Exception):
    """A request that the preset cannot change; the message, after the preset's name, says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Changes of a request's JSON."""

    name: str
    """Name that a request asks for as its `model`."""
    remove: tuple[str, ...] = ()
    default: Mapping[str, Any] = field(default_factory=dict)
    """Values of what a client leaves out."""
    set: Mapping[str, Any] = field(default_factory=dict)
    """Values whatever a client says."""
    cap: Mapping[str, float] = field(default_factory=dict)
    """Largest values of numbers; an answer without a limit gets one."""
    system_prefix: str = ""
    """Beginning of the system prompt, before that of the client."""

    @property
    def changes(self) -> list[str]:
        """Names of the fields that it changes."""
        prefix = ["system_prefix"] if self.system_prefix else []
        return list(dict.fromkeys([*self.set, *self.default, *self.cap, *self.remove, *prefix]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Form of the bodies of one path, as far as presets change them."""

    limit: str = ""
    """Name of the limit of an answer; empty: there is none."""
    begin: Callable[[Fields, str], None] | None = None
    """Put a text before the system prompt; None: there is no system prompt."""
    is_changed: bool = True
    """False: a preset has nothing to change, since no model computes."""


def presets_of(described: Mapping[str, Mapping[str, Any]]) -> dict[str, Preset]:
    """Return presets by name, of a description without mistakes."""
    found = {}
    for name, said in described.items():
        values = dict(said)
        found[name] = Preset(name=name, remove=tuple(values.pop("remove", ())), **values)
    return found


def rewrite(preset: Preset, form: Form, body: bytes) -> bytes:
    """Return the body as this preset has it. Raises PresetError."""
    if not form.is_changed:
        return body
    if preset.system_prefix and form.begin is None:
        raise PresetError("begins with a system prompt, and this path has none. Use /v1/chat/completions")
    try:
        fields = _object.decode(body.removeprefix(_BOM))
    except UNREADABLE as error:
        raise PresetError("changes JSON objects, and this body is none that can be read. Mend it") from error
    fields["model"] = _raw(preset.name)
    for key in preset.remove:
        for name in _spellings(key):
            fields.pop(name, None)
    for key, value in preset.default.items():
        _set_default(fields, key, value, form)
    for key, value in preset.set.items():
        _set(fields, key, value, form)
    for key, most in preset.cap.items():
        _cap(fields, key, most, form)
    if preset.system_prefix and form.begin is not None:
        form.begin(fields, preset.system_prefix)
    return msgspec.json.encode(fields)


# Fields


def _spellings(key: str) -> tuple[str, ...]:
    return next((names for names in (LIMITS, ANSWERS) if key in names), (key,))


def _spelling(key: str, form: Form) -> str:
    """Return the one spelling that counts on this path."""
    if key in LIMITS:
        return form.limit or LIMITS[0]
    return _spellings(key)[0]


def _set_default(fields: Fields, key: str, value: Any, form: Form) -> None:
    said = [fields[name] for name in _spellings(key) if bytes(fields.get(name, b"null")) != b"null"]
    if not said:
        _set(fields, key, value, form)
    elif isinstance(value, Mapping):
        fields[key] = _filled(said[0], value)


def _set(fields: Fields, key: str, value: Any, form: Form) -> None:
    name, before = _spelling(key, form), fields.get(key)
    for other in _spellings(key):
        if other != name:
            fields.pop(other, None)
    fields[name] = _merged(before, value)


def _cap(fields: Fields, key: str, most: float, form: Form) -> None:
    """Lower a number. A limit that is not said, or no number (-1: none), becomes the largest one."""
    said = [fields[name] for name in _spellings(key) if name in fields]
    if said or (key in LIMITS and form.limit):
        smallest = min((number for number in map(_number, said) if number is not None), default=most)
        _set(fields, key, min(smallest, most), form)


def _number(raw: Raw) -> float | None:
    try:
        value = msgspec.json.decode(raw)
    except UNREADABLE:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and value >= 0 else None


def _merged(before: Raw | None, value: Any) -> Raw:
    """Return the value, merged into an object that was there before."""
    inner = _fields_of(before) if isinstance(value, Mapping) else None
    if inner is None:
        return _raw(value)
    for key, of_key in value.items():
        inner[key] = _merged(inner.get(key), of_key)
    return _raw(inner)


def _filled(said: Raw, value: Mapping[str, Any]) -> Raw:
    """Return the object that was said, with what it leaves out."""
    inner = _fields_of(said)
    if inner is None:
        return said
    for key, of_key in value.items():
        if key not in inner:
            inner[key] = _raw(of_key)
        elif isinstance(of_key, Mapping):
            inner[key] = _filled(inner[key], of_key)
    return _raw(inner)


def _fields_of(raw: Raw | None) -> Fields | None:
    """Return the fields of an object; None: it is another value."""
    try:
        return None if raw is None else _object.decode(raw)
    except UNREADABLE:
        return None


def _raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


# System prompts


def _begin_messages(fields: Fields, text: str) -> None:
    """Begin the system message; one is made where there is none. Many templates take no second one."""
    messages = _items_of(fields.get("messages"))
    if messages is None:
        return  # the server says what is wrong with it
    first = _fields_of(messages[0]) if messages else None
    if first is not None and _text_of(first.get("role")) in _SYSTEM:
        first["content"] = _begun(first.get("content"), text)
        messages[0] = _raw(first)
    else:
        messages.insert(0, _raw({"role": "system", "content": text}))
    fields["messages"] = _raw(messages)


def _begin_system(fields: Fields, text: str) -> None:
    fields["system"] = _begun(fields.get("system"), text)


def _begin_instructions(fields: Fields, text: str) -> None:
    fields["instructions"] = _begun(fields.get("instructions"), text)


def _begun(content: Raw | None, text: str) -> Raw:
    """Return content, a text or a list of blocks, with this text before it."""
    blocks = _items_of(content)
    if blocks is not None:
        return _raw([{"type": "text", "text": text}, *blocks])
    said = _text_of(content)
    return _raw(f"{text}{_GAP}{said}" if said else text)


def _items_of(raw: Raw | None) -> list[Raw] | None:
    try:
        return None if raw is None else _list.decode(raw)
    except UNREADABLE:
        return None


def _text_of(raw: Raw | None) -> str:
    try:
        return "" if raw is None else _text.decode(raw)
    except UNREADABLE:
        return ""


CHAT = Form(limit="max_tokens", begin=_begin_messages)
MESSAGES = Form(limit="max_tokens", begin=_begin_system)
RESPONSES = Form(limit="max_output_tokens", begin=_begin_instructions)
TEXT = Form(limit="max_tokens")
NATIVE = Form(limit="n_predict")
OTHER = Form()
"""Embeddings, reranking, speech."""
TOKENS = Form(is_changed=False)
"""Texts cut into tokens, and the way back."""
