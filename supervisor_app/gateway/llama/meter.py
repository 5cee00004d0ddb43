"""The cost of an answer, read from its last bytes. Pure; an answer is never decoded as a whole."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import msgspec

from supervisor_app.gateway.llama.hints import UNREADABLE, Hints
from supervisor_app.gateway.llama.usage import NO_USAGE, Usage

if TYPE_CHECKING:
    from supervisor_app.gateway.llama.operations import Operation

_SPAN = 2048
"""Bytes that a `usage` or `timings` object has at most; real ones have 300."""
_LARGEST = 2**31 - 1
"""Largest count that the database can keep. No request has as many tokens."""
_USAGE, _TIMINGS = b'"usage":', b'"timings":'


_Count = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]


class _Details(msgspec.Struct, gc=False):
    cached_tokens: _Count


class _UsualUsage(msgspec.Struct, gc=False):
    completion_tokens: _Count
    prompt_tokens: _Count
    prompt_tokens_details: _Details


class _UsualTimings(msgspec.Struct, gc=False):
    predicted_per_second: Annotated[float, msgspec.Meta(ge=0)]
    draft_n: _Count | None = None
    draft_n_accepted: _Count | None = None


class _UsualAnswer(msgspec.Struct, gc=False):
    usage: _UsualUsage
    timings: _UsualTimings


_SHORT = 1024
"""Bytes. An answer that is no longer is decoded whole in a quarter of the time that the expressions take."""
_usual_answer = msgspec.json.Decoder(_UsualAnswer).decode

# The usual case, five times as fast as decoding.
_AS_LLAMA_SERVER = re.compile(
    rb'"usage":\{"completion_tokens":([0-9]{1,9}),"prompt_tokens":([0-9]{1,9}),"total_tokens":[0-9]{1,9},'
    rb'"prompt_tokens_details":\{"cached_tokens":([0-9]{1,9})\}\}'
)
_PER_SECOND = re.compile(rb'"predicted_per_second":([0-9]{1,9}(?:\.[0-9]{1,20})?)[,}]')

_DRAFTS = re.compile(rb'"draft_n":([0-9]{1,9}),"draft_n_accepted":([0-9]{1,9})[,}]')

# It alone of the decoders at hand stops where a value ends, whatever follows.
_decode = json.JSONDecoder().raw_decode


def usage_of(tail: bytes, head: bytes = b"") -> Usage:
    """Read the counts of the server; a count that it did not give is None. Never raises.

    `tail` is the last 16 kB or less of an answer, plain or streamed, and may begin anywhere. `head` is its
    first kilobyte, needed where the server says it there: embeddings, the prompt of Anthropic's streams.
    A quote inside of a JSON string is escaped, so what a model says cannot be taken for a count.
    """
    if len(tail) <= _SHORT and tail.startswith(b"{"):
        with suppress(*UNREADABLE):
            whole = _usual_answer(tail)
            usage = whole.usage
            return Usage(
                usage.prompt_tokens,
                usage.prompt_tokens_details.cached_tokens,
                usage.completion_tokens,
                whole.timings.predicted_per_second or None,
                whole.timings.draft_n,
                whole.timings.draft_n_accepted,
            )
    at = tail.rfind(_USAGE)
    told = _AS_LLAMA_SERVER.match(tail, at) if at >= 0 else None
    if told is not None:
        timings = max(0, tail.rfind(_TIMINGS))
        speed, drafts = _PER_SECOND.search(tail, timings), _DRAFTS.search(tail, timings)
        generated, prompt, cached = told.groups()
        drafted, accepted = (int(drafts[1]), int(drafts[2])) if drafts else (None, None)
        per_second = float(speed[1]) or None if speed else None
        return Usage(int(prompt), int(cached), int(generated), per_second, drafted, accepted)
    return _usage_of_any(tail, head)


def usage_of_all(usage: Usage, operation: Operation, hints: Hints, came: int | None = None) -> Usage:
    """An estimate for all answers of a request, where `usage` is all that the server told: one of them.

    `came`: of a stream that was cut, how many tokens of all its answers were seen.
    """
    prompts = hints.prompts if operation.several_prompts else 1
    answers = prompts * hints.answers if operation.several_answers else 1
    if answers == 1:
        return usage
    generated = usage.generated_tokens
    return usage._replace(
        prompt_tokens=_times(prompts, usage.prompt_tokens),
        cached_tokens=_times(prompts, usage.cached_tokens),
        drafted_tokens=_times(answers, usage.drafted_tokens),
        accepted_tokens=_times(answers, usage.accepted_tokens),
        generated_tokens=_times(answers, generated) if generated is None or came is None else came,
    )


def _times(factor: int, count: int | None) -> int | None:
    return None if count is None else min(factor * count, _LARGEST)


def _usage_of_any(tail: bytes, head: bytes) -> Usage:
    usage, timings = _object(tail, tail.rfind(_USAGE)), _object(tail, tail.rfind(_TIMINGS))
    prompt, cached = _prompt_of(usage, timings)
    if prompt is None:
        first = head or tail
        prompt, cached = _prompt_of(_object(first, first.find(_USAGE)), {})
    if prompt is None:
        prompt = _number_after(tail, b'"tokens_evaluated":')
    generated = _first_count(usage.get("completion_tokens"), usage.get("output_tokens"))
    if generated is None:
        generated = _first_count(timings.get("predicted_n"), _number_after(tail, b'"tokens_predicted":'))
    speed = _speed(timings.get("predicted_per_second"))
    if prompt is None and generated is None and speed is None:
        return NO_USAGE
    return Usage(
        prompt_tokens=prompt,
        cached_tokens=cached,
        generated_tokens=generated,
        tokens_per_second=speed,
        drafted_tokens=_count(timings.get("draft_n")),
        accepted_tokens=_count(timings.get("draft_n_accepted")),
    )


def _prompt_of(usage: dict[str, object], timings: dict[str, object]) -> tuple[int | None, int | None]:
    """Tokens of the whole prompt, and those of them that were in the cache."""
    read_from_cache = _count(usage.get("cache_read_input_tokens"))
    fresh = _count(usage.get("input_tokens"))
    if read_from_cache is not None and fresh is not None:  # Anthropic counts them apart
        return fresh + read_from_cache, read_from_cache
    processed, cached = _count(timings.get("prompt_n")), _count(timings.get("cache_n"))
    for kind in ("prompt_tokens_details", "input_tokens_details"):
        details = usage.get(kind)
        if isinstance(details, dict):
            cached = _first_count(details.get("cached_tokens"), cached)
    prompt = _first_count(usage.get("prompt_tokens"), fresh)
    if prompt is None and processed is not None:
        prompt = processed + (cached or 0)
    return prompt, cached


def _object(text: bytes, at: int) -> dict[str, object]:
    """The object behind the key at `at`; empty when there is none, or it is cut."""
    if at < 0:
        return {}
    start = text.index(b":", at) + 1
    value = _value(text, start)
    return value if isinstance(value, dict) else {}


def _number_after(text: bytes, key: bytes) -> int | None:
    """The last one. A stream that was cut has it in every event of /completion."""
    at = text.rfind(key)
    return None if at < 0 else _count(_value(text, at + len(key)))


def _value(text: bytes, start: int) -> object:
    try:
        return _decode(text[start : start + _SPAN].decode("latin-1").lstrip())[0]
    except (ValueError, RecursionError):
        return None


def _first_count(*values: object) -> int | None:
    return next((count for value in values if (count := _count(value)) is not None), None)


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _LARGEST else None


def _speed(value: object) -> float | None:
    """Tokens/s. The server says 0 of a single token: it took no time."""
    return value if isinstance(value, float) and 0 < value < math.inf else None
