"""Faults of a body that names no model. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from supervisor_app.gateway.llama.forms import is_form, is_whole

_BOM = b"\xef\xbb\xbf"


class _Named(msgspec.Struct):
    model: str | None = None


_object = msgspec.json.Decoder(dict[str, Raw])
_named = msgspec.json.Decoder(_Named)


def fault_of(body: bytes, content_type: bytes) -> str:
    """Say what is wrong; empty: nothing is. Servers read JSON whatever its type is called."""
    if not body:
        return ""
    if is_form(content_type):
        return "" if is_whole(body, content_type) else "The form ends before its last boundary."
    body = body.removeprefix(_BOM)
    try:
        body.decode()
        _object.decode(body)
        _named.decode(body)
    except msgspec.ValidationError:
        return _odd(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"The body is not JSON: {error}."
    except RecursionError:
        return ""  # too deep for us, but perhaps not for a server
    return ""


def _odd(body: bytes) -> str:
    """Say what is wrong with JSON that is not what is wanted."""
    is_object = body.lstrip()[:1] == b"{"
    return "`model` must be text." if is_object else "The body must be a JSON object."
