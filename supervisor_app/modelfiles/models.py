"""Tables of the files of models. Written by the supervisor of the node whose disk it is; wishes by people."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class ModelFile(models.Model):
    """A model on a disk: one GGUF file, or the parts of one.

    People write the two columns of the wish to delete, and nothing else; they make and remove no row.
    """

    node = models.CharField(max_length=100)
    path = models.CharField(max_length=1000, help_text="Of the first part.")
    mark = models.CharField(max_length=64, help_text="Digest of the files and devices that were looked at.")
    files = models.JSONField(default=list, help_text="Path and mark of each part, then of each projector.")
    parts = models.PositiveIntegerField(default=1)
    name = models.CharField(max_length=200)
    architecture = models.CharField(max_length=100, default="")
    quantization = models.CharField(max_length=50, default="")
    parameters = models.PositiveBigIntegerField(default=0)
    context = models.PositiveBigIntegerField(default=0, help_text="Tokens that it was trained for.")
    size = models.PositiveBigIntegerField(default=0, help_text="Bytes of all parts.")
    modified_at = models.DateTimeField()
    problem = models.TextField(default="", help_text="Why it cannot be read.")
    used_by = models.JSONField(default=list, help_text="Names of servers.")
    need = models.JSONField(default=dict, help_text="Estimated bytes by device.")
    fits = models.BooleanField(null=True, help_text="Null: not known, or not sure.")
    fit = models.TextField(default="", help_text="The same as a sentence.")
    kept = models.TextField(default="", help_text="Why it cannot be deleted; empty: it can.")
    refusal = models.TextField(default="", help_text="Why the last wish to delete was not carried out.")
    delete_wished_at = models.DateTimeField(null=True)
    delete_wished_by = models.CharField(max_length=150, default="")

    objects: models.Manager[ModelFile] = models.Manager()

    class Meta:
        ordering = ["name", "quantization", "node", "path"]
        constraints = [models.UniqueConstraint(fields=["node", "path"], name="modelfile_once_per_node")]
        indexes = [
            models.Index(
                fields=["node"], name="modelfile_wished", condition=Q(delete_wished_at__isnull=False)
            )
        ]

    def __str__(self) -> str:
        return f"{self.path} on {self.node}"


class State(models.TextChoices):
    """States of a download."""

    WANTED = "wanted"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Desired(models.TextChoices):
    """Wishes of people about a download."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class Download(models.Model):
    """A model that is fetched from the hub to a node.

    People make the row and write which files they want, `desired` and `attempt`; all other columns are the
    supervisor's, which alone removes rows.
    """

    node = models.CharField(max_length=100)
    repository = models.CharField(max_length=200)
    revision = models.CharField(max_length=100, default="main")
    label = models.CharField(max_length=200, default="", help_text="Quantization; empty: the usual one.")
    projector = models.BooleanField(default=False, help_text="With the projector beside the model.")
    desired = models.CharField(max_length=10, choices=Desired.choices, default=Desired.RUN)
    attempt = models.PositiveIntegerField(default=1, help_text="Raised by each wish to go on.")
    asked_by = models.CharField(max_length=150, default="")
    asked_at = models.DateTimeField()

    state = models.CharField(max_length=10, choices=State.choices, default=State.WANTED)
    tried = models.PositiveIntegerField(default=0, help_text="The attempt that was begun last.")
    chosen = models.CharField(max_length=200, default="", help_text="Label of what is fetched.")
    commit = models.CharField(max_length=100, default="")
    files = models.JSONField(default=list, help_text="Path, size and SHA-256 of each file.")
    done = models.PositiveBigIntegerField(default=0, help_text="Bytes.")
    total = models.PositiveBigIntegerField(default=0, help_text="Bytes.")
    speed = models.PositiveBigIntegerField(default=0, help_text="Bytes per second.")
    trouble = models.TextField(default="", help_text="Why it waits.")
    error = models.TextField(default="", help_text="Why it failed.")
    ended_at = models.DateTimeField(null=True)

    objects: models.Manager[Download] = models.Manager()

    class Meta:
        ordering = ["asked_at", "pk"]
        indexes = [models.Index(fields=["node", "state"], name="download_node_state")]

    def __str__(self) -> str:
        return ":".join(filter(None, (self.repository, self.chosen or self.label)))
