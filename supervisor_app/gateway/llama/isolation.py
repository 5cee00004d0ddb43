"""Keep one client's prompts out of what another one can measure. Pure.

llama-server computes no token twice that it finds in a slot or in its prompt cache, whoever put it there,
and says how many it found (`cache_n`, `cached_tokens`). Guessing a prompt piece by piece, a second client
reads it from these counts, or from the time. Observations of b11669:

- `cache_prompt: false` in a request makes it compute all of its prompt; of the same key said twice the last
  one counts. Found or not, it takes as long.
- `/v1/messages` takes over no such field (nor `id_slot`), so only the server's own flag helps there.
- Slots keep nobody apart: a request that names none takes the slot that fits best, whoever used it last, and
  the prompt cache is one for all slots.

So nobody who shares a server with a key that isolates is served from the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from supervisor_app.core.command_line.argv import spelled_out
from supervisor_app.gateway.llama import sse
from supervisor_app.gateway.llama.hints import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor_app.gateway.llama.operations import Operation

NO_CACHE = b'"cache_prompt":false}'
_FIELD = b"cache_prompt"
_BOM = b"\xef\xbb\xbf"
_OFF, _ON = "--no-cache-prompt", "--cache-prompt"
_an_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class NotIsolatedError(Exception):
    """A request would be served from the cache; the message says why it cannot be kept from there."""


def without_cache(body: bytes) -> bytes:
    """Change a body so that it is computed anew. Raises NotIsolatedError where that is not sure."""
    try:
        fields = _an_object.decode(body.removeprefix(_BOM))
    except UNREADABLE as error:
        raise NotIsolatedError("The body is no JSON object that can be read") from error
    end = body.rindex(b"}")
    return body[:end] + (b"," if fields else b"") + NO_CACHE


def check_isolation(
    operation: Operation, body: bytes, *, is_form: bool, is_partial: bool, caches: bool
) -> bool:
    """Can this request be kept from the cache? Raises NotIsolatedError.

    False: it is, as it comes; True: by `without_cache`.
    `caches`: its server serves from the cache unless a request says otherwise.
    """
    if is_partial:
        raise NotIsolatedError("So long a body cannot be kept from it")
    if is_form:
        if caches or _FIELD in body:
            raise NotIsolatedError("A form cannot be kept from it")
        return False
    if caches and operation.events is sse.MESSAGES:
        raise NotIsolatedError("llama-server serves this path from the cache whatever a request says")
    without_cache(body)
    return True


def caches_prompts(args: Sequence[Any]) -> bool:
    """Does a server with these flags serve from its cache unless a request says otherwise?"""
    said = [arg for arg in spelled_out(map(str, args)) if arg in (_OFF, _ON)]
    return not said or said[-1] == _ON


def is_shared_with(models: frozenset[str], names: Iterable[str], *, is_router: bool) -> bool:
    """May a key that allows these models use a server that goes by these names?"""
    return not models or is_router or not models.isdisjoint(names)
