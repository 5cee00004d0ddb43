"""Tables of the traffic: keys, records of requests, requests in quarantine, the use of servers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from supervisor_app.fleet.validators import validate_names
from supervisor_app.gateway.access.keys import Budget, KeyPolicy
from supervisor_app.gateway.llama.operations import Scope
from supervisor_app.gateway.records.record import LONGEST_NAME, Outcome

if TYPE_CHECKING:
    from datetime import datetime

MOST = 10**9
"""The largest limit: more than any gateway can do, and what every database can hold."""
MOST_A_MONTH = 10**15
WORDS = ("captured_request", "captured_answer", "captured_request_head", "captured_answer_head")
"""Columns of what was said."""
OUTCOME_WORDS: dict[Outcome, tuple[str, str]] = {
    Outcome.OK: ("Answered", ""),
    Outcome.HELD: ("Answered", "after waiting"),
    Outcome.REPLAYED: ("Answered", "after a crash"),
    Outcome.CLIENT_LEFT: ("Client left", ""),
    Outcome.REFUSED: ("Refused", ""),
    Outcome.UPSTREAM_ERROR: ("Server error", ""),
    Outcome.UPSTREAM_CRASHED: ("Server died", ""),
    Outcome.UNAVAILABLE: ("Unavailable", ""),
    Outcome.QUARANTINED: ("Quarantined", ""),
    Outcome.CANCELLED: ("Cancelled", "by staff"),
}
"""Outcomes in people's words, each with what more there is to say."""


def _limit(name: str, help_text: str) -> models.PositiveIntegerField[int, int]:
    return models.PositiveIntegerField(
        name, default=0, validators=[MaxValueValidator(MOST)], help_text=f"{help_text} 0: no limit."
    )


class ApiKey(models.Model):
    """Lets a program in. Written by people, in the admin; the gateways write `last_used_at`.

    The key itself is shown once and kept nowhere.
    """

    name = models.CharField(max_length=100, unique=True, help_text="Who uses it: chat UI, nightly job.")
    note = models.CharField(
        max_length=500,
        default="",
        db_default="",
        blank=True,
        help_text="Who answers for it, or what it is for.",
    )
    prefix = models.CharField(max_length=20, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    old_digest = models.CharField(max_length=64, default="", db_default="", editable=False)
    old_until = models.DateTimeField(
        null=True, editable=False, help_text="End of the secret that was replaced by the last rotation."
    )
    enabled = models.BooleanField(default=True)
    expires_at = models.DateTimeField("expires", null=True, blank=True, help_text="Empty: never.")
    allowed_models = models.JSONField(
        "models",
        default=list,
        blank=True,
        validators=[validate_names],
        help_text="What it may ask for, one name a line: a server, a model or an alias. Empty: all.",
    )
    allowed_families = models.JSONField(
        "endpoints",
        default=list,
        db_default=[],
        blank=True,
        validators=[validate_names],
        help_text="Others are refused with 403. All ticked: no limit, also for those to come.",
    )
    may_read = models.BooleanField(
        "may read",
        default=False,
        help_text="Also see how servers are configured and what they do for others: /slots, /props, …",
    )
    may_change = models.BooleanField(
        "may change",
        default=False,
        help_text="Also change servers for everybody and act through them: slots, /lora-adapters, /models/…, "
        "/tools (which run commands), /cors-proxy, and every path that llamaproxy does not know.",
    )
    requests_per_minute = _limit("requests per minute", "A whole minute’s worth may come at once.")
    tokens_per_minute = _limit("tokens per minute", "How many tokens, of prompts and answers together.")
    tokens_per_month = models.PositiveBigIntegerField(
        "tokens per month",
        default=0,
        db_default=0,
        validators=[MaxValueValidator(MOST_A_MONTH)],
        help_text="Of prompts and answers together, from the first of each month (UTC). 0: no limit.",
    )
    max_concurrent = _limit("requests at once", "How many may be in flight.")
    capture = models.BooleanField(
        "keep prompts and answers",
        default=False,
        help_text="Staff can read what is asked with this key and what is answered, with the headers, for "
        "7 days.",
    )
    isolate_cache = models.BooleanField(
        "isolate its prompts",
        default=False,
        help_text="Servers that it may use answer nobody from their cache of prompts: else other keys could "
        "read its prompts from counts of cached tokens. It costs computing each prompt anew, for all keys.",
    )
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)
    last_used_at = models.DateTimeField("last used", null=True, editable=False)

    objects: models.Manager[ApiKey] = models.Manager()

    class Meta:
        db_table = "supervisor_app_apikey"
        ordering = ["name"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return self.name

    @property
    def scopes(self) -> set[Scope]:
        """All may ask models."""
        read = {Scope.READ} if self.may_read or self.may_change else set()
        return {Scope.INFERENCE} | read | ({Scope.CHANGE} if self.may_change else set())

    def as_policies(self, used: int = 0, month_ends_at: float = 0.0) -> list[KeyPolicy]:
        """Return the policy of its secret, and that of the secret before. `used`: tokens of this month."""
        policy = self._policy(
            Budget(tokens=self.tokens_per_month, used=used, ends_at=month_ends_at)
            if self.tokens_per_month
            else None
        )
        if not self.old_digest or self.old_until is None:
            return [policy]
        end = self.old_until.timestamp()
        old = replace(
            policy,
            digest=bytes.fromhex(self.old_digest),
            expires_at=end if policy.expires_at is None else min(end, policy.expires_at),
            replaced=True,
        )
        return [policy, old]

    def _policy(self, budget: Budget | None) -> KeyPolicy:
        return KeyPolicy(
            id=self.pk,
            name=self.name,
            digest=bytes.fromhex(self.digest),
            enabled=self.enabled,
            expires_at=self.expires_at.timestamp() if self.expires_at else None,
            scopes=frozenset(self.scopes),
            models=frozenset(self.allowed_models),
            families=frozenset(self.allowed_families),
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            max_concurrent=self.max_concurrent,
            capture=self.capture,
            isolate_cache=self.isolate_cache,
            budget=budget,
        )


class RequestRecord(models.Model):
    """A request through a gateway. Names are text: what was asked outlives servers and keys."""

    at = models.DateTimeField()
    server = models.CharField(max_length=50, default="", blank=True)
    model = models.CharField(max_length=LONGEST_NAME, default="", blank=True)
    key = models.CharField(max_length=100, default="", blank=True, help_text="Empty: none was asked for.")
    method = models.CharField(max_length=10)
    route = models.CharField(max_length=LONGEST_NAME)
    status = models.PositiveSmallIntegerField(null=True, help_text="Empty: it left before there was one.")
    outcome = models.CharField(
        max_length=20,
        choices=[(outcome.value, " ".join(words).strip()) for outcome, words in OUTCOME_WORDS.items()],
    )
    streamed = models.BooleanField(default=False)
    held_ms = models.FloatField("held", default=0.0)
    room_ms = models.FloatField("of which for room", default=0.0, db_default=0.0)
    load_ms = models.FloatField("of which for its load", default=0.0, db_default=0.0)
    ttft_ms = models.FloatField("first token after", null=True)
    duration_ms = models.FloatField("duration", default=0.0)
    replays = models.PositiveSmallIntegerField(default=0)
    prompt_tokens = models.PositiveIntegerField(null=True)
    cached_tokens = models.PositiveIntegerField(null=True)
    generated_tokens = models.PositiveIntegerField(null=True)
    tokens_per_second = models.FloatField(null=True)
    drafted_tokens = models.PositiveIntegerField(null=True)
    accepted_tokens = models.PositiveIntegerField(null=True)
    incident = models.CharField(max_length=LONGEST_NAME, default="", blank=True)
    request_id = models.CharField(
        "request", max_length=40, default="", blank=True, help_text="As its client was told: X-Request-Id."
    )
    # Null is "not kept", empty is "said nothing".
    captured_request = models.TextField(null=True)  # noqa: DJ001
    captured_answer = models.TextField(null=True)  # noqa: DJ001
    captured_request_head = models.TextField(null=True)  # noqa: DJ001
    captured_answer_head = models.TextField(null=True)  # noqa: DJ001

    objects: models.Manager[RequestRecord] = models.Manager()

    class Meta:
        db_table = "supervisor_app_requestrecord"
        ordering = ["-at", "-pk"]
        verbose_name = "request"
        indexes = [
            models.Index(fields=["-at"], name="request_at"),
            models.Index(fields=["server", "-at"], name="request_server_at"),
            models.Index(
                fields=["id"], name="request_words", condition=models.Q(captured_request__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.route}, {self.at:%Y-%m-%d %H:%M:%S}"


class UsageDay(models.Model):
    """The sums of the requests of one day (UTC), key, server and model. Written by the gateways, with them.

    Names are text, as in the records. Models go by their ids: clients may call them what they like.
    """

    day = models.DateField()
    key = models.CharField(max_length=100, default="", blank=True)
    server = models.CharField(max_length=50, default="", blank=True)
    model = models.CharField(max_length=LONGEST_NAME, default="", blank=True)
    requests = models.PositiveBigIntegerField(default=0)
    failed = models.PositiveBigIntegerField(default=0)
    held = models.PositiveBigIntegerField(default=0, help_text="Requests that waited for their server.")
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    generated_tokens = models.PositiveBigIntegerField(default=0)

    objects: models.Manager[UsageDay] = models.Manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["day", "key", "server", "model"], name="usage_once_a_day")
        ]
        indexes = [models.Index(fields=["key", "day"], name="usage_of_key")]

    def __str__(self) -> str:
        return f"{self.day}: {self.requests} of {self.key or 'no key'} to {self.model}"


class QuarantinedQuerySet(models.QuerySet["QuarantinedRequest"]):
    def in_force(self, now: datetime | Now) -> QuarantinedQuerySet:
        return self.filter(until__gt=now)


class QuarantinedRequest(models.Model):
    """A body that killed its server, by its hash: not sent to it again until `until`."""

    server = models.CharField(max_length=50)
    body_hash = models.CharField(max_length=64)
    incident = models.CharField(max_length=LONGEST_NAME, help_text="The crash, as its client was told.")
    reason = models.TextField()
    key = models.PositiveBigIntegerField(
        null=True, editable=False, help_text="Primary key of the API key that it was sent with."
    )
    deaths = models.JSONField(
        default=list, editable=False, help_text="What died of it: names of servers, each with a pid."
    )
    at = models.DateTimeField()
    until = models.DateTimeField()

    objects = QuarantinedQuerySet.as_manager()

    class Meta:
        db_table = "supervisor_app_quarantinedrequest"
        ordering = ["-at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["server", "body_hash"], name="quarantined_once_per_server")
        ]

    def __str__(self) -> str:
        return f"{self.body_hash[:12]} on {self.server}"


def quarantined_rows() -> models.QuerySet[QuarantinedRequest, Any]:
    """Requests in quarantine, for comparison."""
    return QuarantinedRequest.objects.in_force(Now()).order_by("pk").values_list()


def explained_deaths(now: datetime) -> dict[str, frozenset[int]]:
    """The pids of processes that a request killed which is in quarantine, by server."""
    found: dict[str, set[int]] = {}
    for deaths in QuarantinedRequest.objects.in_force(now).values_list("deaths", flat=True):
        for server, pid in deaths:
            found.setdefault(server, set()).add(pid)
    return {server: frozenset(pids) for server, pids in found.items()}


class ServerUse(models.Model):
    """The last use of a server through a gateway, which tells whether it is idle."""

    server = models.OneToOneField(
        "supervisor_app.LlamaServer", models.CASCADE, related_name="use", primary_key=True
    )
    last_request_at = models.DateTimeField()

    objects: models.Manager[ServerUse] = models.Manager()

    class Meta:
        db_table = "supervisor_app_serveruse"

    def __str__(self) -> str:
        return f"{self.server}: {self.last_request_at:%Y-%m-%d %H:%M:%S}"


class GatewaySight(models.Model):
    """Requests in flight at a gateway, while there are any. Each gateway writes its own row."""

    gateway = models.CharField(max_length=32, primary_key=True)
    seen_at = models.DateTimeField(help_text="By the database's clock.")
    total = models.PositiveIntegerField(help_text="Requests in flight, also those that are not listed.")
    counts = models.TextField(help_text="By server, as JSON: `in_flight.ServerCounts` of each.")
    requests = models.TextField(help_text="The oldest, as JSON: `in_flight.InFlight` of each.")

    objects: models.Manager[GatewaySight] = models.Manager()

    def __str__(self) -> str:
        return f"{self.total} at {self.gateway}"


class CancelWish(models.Model):
    """A request that is to be cancelled. Written and pruned by people's pages; its gateway obeys."""

    request_id = models.CharField(max_length=40, primary_key=True)
    asked_at = models.DateTimeField(help_text="By the database's clock.")

    objects: models.Manager[CancelWish] = models.Manager()

    def __str__(self) -> str:
        return self.request_id


class ModelList(models.Model):
    """The words of a server about its models, for when it cannot say them. Written by the gateways."""

    server = models.OneToOneField(
        "supervisor_app.LlamaServer", models.CASCADE, related_name="model_list", primary_key=True
    )
    launch = models.TextField(help_text="What it was started with when it said so.")
    said = models.TextField(help_text="The list, as JSON.")
    read_at = models.FloatField(help_text="Unix seconds.")

    objects: models.Manager[ModelList] = models.Manager()

    class Meta:
        db_table = "supervisor_app_modellist"

    def __str__(self) -> str:
        return f"{self.server}"
