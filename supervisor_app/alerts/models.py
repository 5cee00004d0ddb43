"""Tables of alerts: whom to tell (`AlertChannel`), what happened (`Incident`), who was told (`Delivery`)."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone

from supervisor_app.alerts.rules import IT_IS_DOWN, AlertEvent, IncidentEnd
from supervisor_app.alerts.transport import BadAddressError, check, mask
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.logs.hidden import Hider
from supervisor_app.logs.search import BadFilterError, Filter, Matcher

A_YEAR_OF_HOURS = 24 * 366
LONGEST_NOTE = 500


class AlertChannelQuerySet(models.QuerySet["AlertChannel"]):
    def for_server(self, server_id: int) -> AlertChannelQuerySet:
        """Enabled ones that look at this server: by name, or at all."""
        return self.filter(Q(servers=None) | Q(servers=server_id), enabled=True).distinct()


class AlertChannel(models.Model):
    """Somewhere to send alerts. Written by people, in the admin."""

    name = models.CharField(max_length=100, unique=True, help_text="For you: ops chat, my phone.")
    url = models.CharField(
        "address",
        max_length=1000,
        help_text="Where to send. It often holds a password or token, so it is not shown again.",
    )
    enabled = models.BooleanField(default=True)
    on_crashed = models.BooleanField("crashed", default=True, help_text="It went down and will be retried.")
    on_hung = models.BooleanField("hung", default=True, help_text="It lived but did not answer or move.")
    on_given_up = models.BooleanField(
        "given up", default=True, help_text="It stays down until somebody does something."
    )
    on_recovered = models.BooleanField(
        "recovered", default=True, help_text="It is up again, and has been for its “stable after”."
    )
    on_line = models.BooleanField(
        "line of a log",
        default=True,
        db_default=True,
        help_text="A line that somebody watches for was written.",
    )
    servers = models.ManyToManyField(
        "supervisor_app.LlamaServer",
        blank=True,
        related_name="alert_channels",
        help_text="Only these. None chosen: all, also those to come.",
    )
    resend_hours = models.PositiveIntegerField(
        "say it again every … hours",
        default=0,
        help_text="While it stays down. 0: never.",
    )

    objects = AlertChannelQuerySet.as_manager()

    class Meta:
        db_table = "supervisor_app_alertchannel"
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(resend_hours__lte=A_YEAR_OF_HOURS),
                name="alertchannel_resend_within_a_year",
                violation_error_message=f"At most {A_YEAR_OF_HOURS} hours.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        try:
            check(self.url)
        except BadAddressError as error:
            raise ValidationError({"url": str(error)}) from error

    @property
    def masked(self) -> str:
        return mask(self.url)

    @property
    def wants(self) -> frozenset[AlertEvent]:
        ticked = {
            AlertEvent.CRASHED: self.on_crashed,
            AlertEvent.HUNG: self.on_hung,
            AlertEvent.GIVEN_UP: self.on_given_up,
            AlertEvent.RECOVERED: self.on_recovered,
            AlertEvent.LINE: self.on_line,
        }
        return frozenset(event for event, wanted in ticked.items() if wanted)


class IncidentQuerySet(models.QuerySet["Incident"]):
    def open(self) -> IncidentQuerySet:
        return self.filter(closed_at=None)


class Incident(models.Model):
    """A time of being down, flapping included. Written with the state, in the same transaction."""

    server = models.ForeignKey("supervisor_app.LlamaServer", models.CASCADE, related_name="incidents")
    opened_at = models.DateTimeField()
    recovered_at = models.DateTimeField(null=True, help_text="Ready since then; empty while it is not.")
    closes_at = models.DateTimeField(null=True, help_text="Over, if it stays ready until then.")
    closed_at = models.DateTimeField(null=True)
    ending = models.CharField(
        max_length=10, default="", blank=True, choices=[(word.value, word.value) for word in IncidentEnd]
    )
    worst = models.CharField(max_length=10, choices=[(status.value, status.value) for status in Status])
    failure = models.JSONField(null=True, help_text="The latest one.")
    failure_kind = models.CharField(
        max_length=30, default="", blank=True, choices=[(kind.value, kind.value) for kind in FailureKind]
    )
    said = models.JSONField(default=list, help_text="What has happened in it.")
    planned = models.BooleanField(
        default=False, db_default=False, help_text="It is in a time of planned work: nobody is told."
    )
    changed_at = models.DateTimeField(auto_now=True)

    objects = IncidentQuerySet.as_manager()

    class Meta:
        db_table = "supervisor_app_incident"
        ordering = ["-opened_at", "-pk"]
        indexes = [models.Index(fields=["closes_at"], condition=Q(closed_at=None), name="incident_to_close")]
        constraints = [
            models.UniqueConstraint(
                fields=["server"], condition=Q(closed_at=None), name="incident_one_open_per_server"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.server}: {self.failure['title'] if self.failure else 'down'}"


class IncidentNote(models.Model):
    """Words on an incident for those who read the status page. Written by people."""

    incident = models.OneToOneField(Incident, models.CASCADE, related_name="note")
    text = models.CharField(max_length=LONGEST_NOTE)
    author = models.CharField(max_length=150, default="", blank=True)
    written_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-written_at", "-pk"]

    def __str__(self) -> str:
        return self.text


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def pending(self) -> DeliveryQuerySet:
        return self.filter(state=Delivery.State.PENDING)


class Delivery(models.Model):
    """A message to a channel. Constraints keep it single, however many processes want to write it."""

    class State(models.TextChoices):
        PENDING = "pending"
        SENT = "sent"
        FAILED = "failed"
        """Tried for a day."""

    channel = models.ForeignKey(AlertChannel, models.CASCADE, related_name="deliveries")
    incident = models.ForeignKey(Incident, models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=20, choices=[(event.value, event.value) for event in AlertEvent])
    sequence = models.PositiveIntegerField(default=0, help_text="Counts what is said again.")
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    alert = models.JSONField(help_text="What to send: the body of a webhook.")
    created_at = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(default=timezone.now)
    claimed_at = models.DateTimeField(null=True)
    claimed_by = models.CharField(max_length=200, default="", blank=True)
    sent_at = models.DateTimeField(null=True)
    last_error = models.TextField(default="", blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        db_table = "supervisor_app_delivery"
        ordering = ["-created_at", "-pk"]
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(fields=["next_try_at"], condition=Q(state="pending"), name="delivery_to_send")
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["channel", "incident", "event", "sequence"], name="delivery_once"
            ),
            models.UniqueConstraint(
                fields=["channel", "incident"],
                condition=Q(event__in=sorted(event.value for event in IT_IS_DOWN)),
                name="delivery_down_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.channel}"


class LineWatch(models.Model):
    """A text or pattern that people want to be told of when a server writes it. Written by people."""

    name = models.CharField(max_length=100, help_text="For you: what it means when this is written.")
    pattern = models.CharField(max_length=1000, help_text="A part of the line; upper case makes it exact.")
    is_pattern = models.BooleanField("is a pattern", default=False, help_text="In RE2's syntax.")
    server = models.ForeignKey(
        "supervisor_app.LlamaServer",
        models.CASCADE,
        null=True,
        blank=True,
        related_name="line_watches",
        help_text="None: all servers, also those to come.",
    )
    enabled = models.BooleanField(default=True)
    made_by = models.CharField(max_length=150, default="", blank=True, editable=False)
    made_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name", "pk"]
        verbose_name_plural = "line watches"

    def __str__(self) -> str:
        return f"{self.name}: {self.pattern}"

    def clean(self) -> None:
        try:
            self.matcher(Hider())
        except BadFilterError as error:
            raise ValidationError({"pattern": str(error)}) from error
        if not self.pattern.strip():
            raise ValidationError({"pattern": "What is to be watched for? Every line would do."})

    def matcher(self, hider: Hider) -> Matcher:
        """Return what finds the lines. Raises BadFilterError."""
        return Matcher(Filter(text=self.pattern, is_pattern=self.is_pattern), hider)
