"""Tables of leases: of a node, for its supervisor; of an alias, for the server that may restart."""

from __future__ import annotations

from django.db import models

from supervisor_app.fleet.holder import Holder


class NodeLease(models.Model):
    """The supervisor of a node. Written by that supervisor, by compare and swap."""

    node = models.CharField(max_length=100, unique=True)
    holder = models.CharField(max_length=400)
    token = models.CharField(max_length=32)
    renewed_at = models.DateTimeField(help_text="By the database's clock: those of hosts differ.")
    devices = models.JSONField(null=True, help_text="Its memory and GPUs, as they were seen last.")

    def __str__(self) -> str:
        return f"{self.node}: {self.by}"

    @property
    def by(self) -> Holder:
        return Holder.parse(self.holder)


class RestartTurn(models.Model):
    """The turn of one server to be down for a restart, among all that answer to an alias.

    Good while a supervisor holds the server's node. Written by that supervisor.
    """

    alias = models.TextField(unique=True)
    holder = models.ForeignKey("LlamaServer", models.CASCADE, related_name="turns")
    since = models.DateTimeField(help_text="By the database's clock.")

    def __str__(self) -> str:
        return f"{self.alias}: {self.holder}"
