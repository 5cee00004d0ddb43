"""API keys: who may, and how much. Pure: time is an argument, and the rows come from elsewhere."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from math import ceil
from typing import TYPE_CHECKING

from supervisor_app.common.words import counted, span, thousands
from supervisor_app.gateway.llama.operations import Family, Scope

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from supervisor_app.gateway.llama.operations import Operation

MARK = "lp-"
"""Beginning of every key, so that people and secret scanners know it."""
SHOWN = 8
"""Characters of a key, the mark among them, that are kept to tell it from others."""
BUSY_RETRY_SECONDS = 1
"""Guess at when a request of the same key may have ended: nobody knows."""
ENOUGH = 1 - 1e-6
"""Part of a token that lets a request in: a token refilled in many small steps is a rounding error short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Tokens that a key may use in a month of UTC, and has used by the sums of its days."""

    tokens: int
    used: int
    ends_at: float
    """End of the month, in Unix seconds."""

    def is_spent(self, now: float) -> bool:
        """Tell whether nothing is left. `now`: Unix seconds; the next month begins with nothing used."""
        return self.used >= self.tokens and now < self.ends_at


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """Rights and limits of one key. 0 means no limit; empty `models` or `families` mean all."""

    id: int
    name: str
    digest: bytes
    """SHA-256 of the key: it has 256 random bits, so a slow hash would protect nothing."""
    enabled: bool = True
    expires_at: float | None = None
    """Unix seconds."""
    scopes: frozenset[Scope] = frozenset({Scope.INFERENCE})
    models: frozenset[str] = frozenset()
    families: frozenset[str] = frozenset()
    """Values of `Family`, and of those that a later version may know."""
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    max_concurrent: int = 0
    capture: bool = False
    """Keep prompts and answers."""
    isolate_cache: bool = False
    """Servers that it may use serve nobody from their cache."""
    budget: Budget | None = None
    replaced: bool = False
    """The digest is that of an old secret: the key has a new one, and this one ends with `expires_at`."""

    @property
    def is_limited(self) -> bool:
        return bool(self.requests_per_minute or self.tokens_per_minute or self.max_concurrent)


class Denied(Exception):  # noqa: N818 - it says what was decided, nothing has gone wrong
    """The request is not let in: what to answer in OpenAI's shape. `retry_after` is in whole seconds."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        retry_after: int | None = None,
        *,
        key: int | None = None,
        kind: str = "",
        retryable: bool | None = None,
    ) -> None:
        """`kind`: its `type` in OpenAI's shape; `retryable`: `problem.Problem`'s."""
        super().__init__(message)
        self.key = key
        """Id of the key's policy, if the key is known."""
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.type = kind
        self.retryable = retryable


def new_key() -> str:
    """256 random bits. Shown once; only `digest_of` it is kept."""
    return MARK + secrets.token_urlsafe(32)


def digest_of(key: str) -> bytes:
    # Bytes that are no text are no key either: they must not become another error.
    return sha256(key.encode("utf-8", "replace")).digest()


def shown_part(key: str) -> str:
    return key[:SHOWN]


class KeyRing:
    """All keys as they were at one moment; a change makes a new ring."""

    def __init__(self, policies: Iterable[KeyPolicy]) -> None:
        self._by_digest = {policy.digest: policy for policy in policies}
        # Only keys that are right get in here, so it is as small as the table. A dictionary compares texts
        # after their randomly seeded hashes: how long that takes tells a stranger nothing.
        self.presented: dict[str, KeyPolicy] = {}
        self.is_open = not self._by_digest
        """True: there is no key at all, so requests need none. A key that is switched off is a key."""
        self.isolating = tuple(
            policy for policy in self._by_digest.values() if policy.isolate_cache and not policy.replaced
        )
        """All keys that isolate, also switched off: what they asked may be in a cache still."""

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(policy.id for policy in self._by_digest.values())

    def find(self, presented: str, now: float) -> KeyPolicy:
        """Find the policy of a key. `now`: Unix seconds. Raises Denied."""
        policy = self.presented.get(presented)
        if policy is None:
            policy = self.presented[presented] = self._look_up(presented)
        if (denied := _no_longer_good(policy, now)) is not None:
            raise denied
        return policy

    def withdrawn(self, policy: KeyPolicy, operation: Operation, now: float) -> Denied | None:
        """Say with what to end a request that this key let in earlier; None while the key is good for it."""
        kept = self._by_digest.get(policy.digest)
        if kept is None:
            return Denied(401, "invalid_api_key", f"The API key {policy.name!r} was deleted.", key=policy.id)
        if operation.scope not in kept.scopes:
            return scope_denied(kept, operation.scope, "do this any more")
        if keeps_from(kept, operation):
            return family_denied(kept, "do this any more")
        return _no_longer_good(kept, now)

    def _look_up(self, presented: str) -> KeyPolicy:
        if not presented:
            raise Denied(
                401, "invalid_api_key", "An API key is needed: send it as `Authorization: Bearer lp-…`."
            )
        digest = digest_of(presented)
        policy = self._by_digest.get(digest)
        if policy is None or not hmac.compare_digest(policy.digest, digest):
            raise Denied(401, "invalid_api_key", "This API key is not known here.")
        return policy


def _no_longer_good(policy: KeyPolicy, now: float) -> Denied | None:
    message = ""
    if not policy.enabled:
        message = f"The API key {policy.name!r} is switched off."
    elif policy.expires_at is not None and policy.expires_at <= now:
        day = f"{datetime.fromtimestamp(policy.expires_at, UTC):%Y-%m-%d %H:%M} UTC"
        message = f"The API key {policy.name!r} expired on {day}."
        if policy.replaced:
            message = f"The API key {policy.name!r} has a new secret; this one was good until {day}."
    return Denied(401, "invalid_api_key", message, key=policy.id) if message else None


_NEEDS = {
    Scope.READ: "tells how a server is configured and what it does for others: only with “may read”",
    Scope.CHANGE: "may change a server for everybody, or act through it: only with “may change”",
}


def check_operation(policy: KeyPolicy, operation: Operation, what: str) -> None:
    """Raise Denied for a key that does not say that it may. `what`: the method and the path."""
    if operation.scope not in policy.scopes:
        raise scope_denied(policy, operation.scope, what)
    if keeps_from(policy, operation):
        raise family_denied(policy, what)


def keeps_from(policy: KeyPolicy, operation: Operation) -> bool:
    """Tell whether a key is limited to other operations."""
    family = operation.family
    return bool(policy.families) and family is not None and family not in policy.families


def check_budget(policy: KeyPolicy, now: float) -> None:
    """Raise Denied for a key that has used up its tokens of the month. `now`: Unix seconds."""
    budget = policy.budget
    if budget is None or not budget.is_spent(now):
        return
    end = datetime.fromtimestamp(budget.ends_at, UTC)
    raise Denied(
        429,
        "insufficient_quota",
        f"The API key {policy.name!r} has used {thousands(budget.used)} of its "
        f"{thousands(budget.tokens)} tokens of this month. It may go on from {end:%Y-%m-%d %H:%M} UTC, or "
        "when its budget is raised.",
        retry_after=max(1, ceil(budget.ends_at - now)),
        key=policy.id,
        kind="insufficient_quota",
        retryable=False,
    )


def scope_denied(policy: KeyPolicy, scope: Scope, what: str) -> Denied:
    said = f"The API key {policy.name!r} may not {what}."
    message = f"{said} It {_NEEDS[scope]}, which is ticked in the admin."
    return Denied(403, "scope_not_allowed", message, key=policy.id)


def family_denied(policy: KeyPolicy, what: str) -> Denied:
    allowed = ", ".join(family for family in Family if family in policy.families)
    message = f"The API key {policy.name!r} may not {what}. It is limited to: {allowed or 'nothing'}."
    return Denied(403, "endpoint_not_allowed", message, key=policy.id)


def model_denied(policy: KeyPolicy, model: str, doubt: str = "") -> Denied:
    """`model` is the client's word for it, `doubt` why it might get another one."""
    if model in policy.models and not doubt:
        doubt = "no server here goes by that name; one that is meant to gets it as an alias"
    reason = f": {doubt}" if doubt else ""
    allowed = ", ".join(sorted(policy.models))
    message = f"The API key {policy.name!r} may not use {model!r}{reason}. It may use: {allowed}."
    return Denied(403, "model_not_allowed", message, key=policy.id)


def key_paused(policy: KeyPolicy, seconds: float) -> Denied:
    """Refuse a key that has sent several requests that killed their servers."""
    wait = max(1, ceil(seconds))
    pause = span(60 * max(1, round(wait / 60)))
    message = (
        f"The API key {policy.name!r} is paused for {pause}: several different requests with it killed "
        "a server. They are listed on the server's page, where releasing them ends the pause."
    )
    return Denied(429, "key_paused", message, retry_after=wait, key=policy.id)


class Bucket:
    """A token bucket: holds what one minute allows, and refills evenly. Less than nothing is debt."""

    __slots__ = ("at", "level")

    def __init__(self, level: float, at: float) -> None:
        self.level = level
        self.at = at

    def refill(self, per_minute: int, now: float) -> float:
        level = self.level + (now - self.at) * per_minute / 60
        self.at = now
        self.level = level = level if level < per_minute else float(per_minute)
        return level

    def seconds_until_one(self, per_minute: int) -> int:
        return max(1, ceil((1 - self.level) * 60 / per_minute))


class Spent:
    """Requests and tokens that one key has used."""

    __slots__ = ("requests", "running", "tokens")

    def __init__(self) -> None:
        self.running = 0
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None


class Limiter:
    """Use of each key, by its id, which goes on when the keys are read again.

    Requests and tokens per minute are token buckets: a key that was quiet may use a whole minute's worth at
    once, and then as much as refills. All times are monotonic seconds.
    """

    def __init__(self) -> None:
        self.spent: dict[int, Spent] = {}

    def admit(self, policy: KeyPolicy, now: float) -> None:
        """Counts a request in; each one that was let in needs its `release`. Raises Denied."""
        spent = self.spent.get(policy.id)
        if spent is None:
            spent = self.spent[policy.id] = Spent()
        if policy.max_concurrent and spent.running >= policy.max_concurrent:
            raise _too_many(
                policy, counted(policy.max_concurrent, "request") + " at once", BUSY_RETRY_SECONDS
            )
        if per_minute := policy.tokens_per_minute:
            tokens = spent.tokens
            if tokens is not None and tokens.refill(per_minute, now) < ENOUGH:
                wait = tokens.seconds_until_one(per_minute)
                raise _too_many(policy, counted(per_minute, "token") + " per minute", wait)
        if per_minute := policy.requests_per_minute:
            requests = spent.requests
            if requests is None:
                requests = spent.requests = Bucket(per_minute, now)
            if requests.refill(per_minute, now) < ENOUGH:
                wait = requests.seconds_until_one(per_minute)
                raise _too_many(policy, counted(per_minute, "request") + " per minute", wait)
            requests.level -= 1
        spent.running += 1

    def release(self, policy: KeyPolicy) -> None:
        """A request that was let in has ended."""
        spent = self.spent.get(policy.id)
        if spent is not None and spent.running:
            spent.running -= 1

    def charge(self, policy: KeyPolicy, tokens: int, now: float) -> None:
        """Charge a key for an answer. More than was left is debt, which refills like the rest."""
        per_minute = policy.tokens_per_minute
        spent = self.spent.get(policy.id)
        if not per_minute or spent is None:
            return
        if spent.tokens is None:
            spent.tokens = Bucket(per_minute, now)
        spent.tokens.refill(per_minute, now)
        spent.tokens.level -= tokens

    def forget_others(self, ids: Collection[int]) -> None:
        """Keys that are gone and have nothing running: so this stays as small as the table."""
        gone = [key for key, spent in self.spent.items() if key not in ids and not spent.running]
        for key in gone:
            del self.spent[key]


def _too_many(policy: KeyPolicy, limit: str, wait: int) -> Denied:
    message = f"The API key {policy.name!r} is limited to {limit}. Try again in {span(wait)}."
    return Denied(429, "rate_limit_exceeded", message, retry_after=wait, key=policy.id)
