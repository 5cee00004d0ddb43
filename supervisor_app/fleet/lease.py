"""The lease of a node, for one supervisor among all hosts: a row of the shared database, kept renewed."""

from __future__ import annotations

import logging
import os
import socket
import time
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.db import models
from django.db.models.functions import Now

from supervisor_app.core.machine.identity import identity_of, machine
from supervisor_app.core.ports import NodeTakenError
from supervisor_app.fleet.models import NodeLease

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=15)
"""Three heartbeats: not renewed for so long, it is free."""
LOOK_SECONDS = 0.2


class Lease:
    """Lease of a node, which one supervisor holds.

    A lease is free when its holder was a process of this machine and is gone: a killed supervisor is followed
    at once. Or when it was not renewed for `LEASE`, by the database's clock: no two hosts' are compared.
    Every method raises what the database raises.
    """

    def __init__(self, node: str) -> None:
        self._node, pid = node, os.getpid()
        me = identity_of(pid)
        self._holder = f"{pid} {me.start if me else 0} {machine()} {socket.gethostname()}"
        self._token = uuid4().hex

    def take(self) -> None:
        """Acquire the lease. Raises NodeTakenError.

        A holder elsewhere may have died a moment ago, perhaps with its machine: it is watched until it
        renews, or was silent for too long.
        """
        seen: datetime | None = None
        while not self._seize():
            if (row := self._row()) is not None:
                if row.by.is_here or (seen and row.renewed_at != seen):
                    raise NodeTakenError(str(row.by))
                if seen is None:
                    log.info("⏳ [NODE] Waiting whether %s, which has %r, is alive", row.by, self._node)
                seen = row.renewed_at
            time.sleep(LOOK_SECONDS)

    def renew(self, devices: dict[str, Any] | None = None) -> None:
        """Renew the lease, with the node's devices where they were looked at.

        Raises NodeTakenError when another supervisor has the lease by now.
        """
        news = {} if devices is None else {"devices": devices}
        if self._mine().update(renewed_at=Now(), **news) or self._seize():
            return
        if (row := self._row()) is not None:  # else it was just given back: next time
            raise NodeTakenError(str(row.by))

    def release(self) -> None:
        self._mine().delete()

    def _mine(self) -> models.QuerySet[NodeLease]:
        return NodeLease.objects.filter(node=self._node, token=self._token)

    def _row(self) -> NodeLease | None:
        return NodeLease.objects.filter(node=self._node).first()

    def _seize(self) -> bool:
        """Take the lease, if it is free."""
        ours = {"holder": self._holder, "token": self._token, "renewed_at": Now()}
        if (row := self._row()) is None:
            NodeLease.objects.bulk_create([NodeLease(node=self._node, **ours)], ignore_conflicts=True)
        else:
            free = NodeLease.objects.filter(node=self._node, token=row.token)
            if not row.by.is_gone:
                free = free.exclude(_renewed_lately())
            free.update(**ours)
        return self._mine().exists()


def _renewed_lately() -> models.Q:
    """Select leases in force. A date in the far future does not count: the clock was put back."""
    return models.Q(renewed_at__range=(Now() - LEASE, Now() + LEASE))


def live_leases() -> models.QuerySet[NodeLease]:
    """Leases of nodes that a supervisor holds: renewed lately, by the database's clock."""
    return NodeLease.objects.filter(_renewed_lately())


def expired_leases() -> models.QuerySet[NodeLease]:
    """Leases of nodes whose supervisor ended without a word, perhaps with its host."""
    return NodeLease.objects.exclude(_renewed_lately())


def is_supervised(node: str) -> bool:
    """Tell whether a supervisor holds the node."""
    return live_leases().filter(node=node).exists()
