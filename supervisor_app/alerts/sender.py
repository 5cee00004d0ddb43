"""Send alerts beside supervision: one thread claims and records, one more sends each message.

A thread for each message, because an address may hang.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from supervisor_app.alerts import deliveries, incidents, transport
from supervisor_app.alerts.lost_hosts import LostHosts
from supervisor_app.alerts.models import Delivery, Incident
from supervisor_app.common.beside import Beside
from supervisor_app.common.database import Rows
from supervisor_app.common.guard import Guard
from supervisor_app.common.words import MISTAKE, span
from supervisor_app.fleet.lease import expired_leases

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Interval between two polls; an alert may be that late."""
CHORES_SECONDS = 10.0
"""Interval between two searches for reminders that are due and alerts to give up."""
AT_ONCE = 4
"""Messages in flight, each to another channel: a channel that hangs delays only itself."""
LEAVE_SECONDS = 1.5
"""Time for messages in flight at the end. Another sender repeats the rest."""

Deliver = Callable[[str, Mapping[str, Any], str], None]


@dataclass(frozen=True)
class Result:
    delivery: Delivery
    error: str
    """Why the message was not sent; empty when it was."""


class AlertSender:
    """A sender of alerts. Any number may share a database: each message is claimed by one of them."""

    def __init__(
        self, *, node: str, send: Deliver = transport.send, clock: Callable[[], float] = time.time
    ) -> None:
        self._me = f"{node} {uuid4().hex}"
        self._send = send
        self._clock = clock
        self._results: queue.Queue[Result | None] = queue.Queue()
        self._unrecorded: list[Result] = []
        self.on_their_way: dict[int, Delivery] = {}
        """Keyed by channel."""
        self._lost_hosts = LostHosts()
        self._matters = Rows(
            lambda: Incident.objects.open().values_list("pk")[:1],
            lambda: Delivery.objects.pending().values_list("pk")[:1],
            lambda: expired_leases().values_list("pk")[:1],
        )
        """Most of the time nothing is open, nothing is to be sent and no host is lost."""
        self.chores_at = 0.0
        self._guard = Guard(log, "ALERTS", "The database failed ({reason}). Alerts wait until it is back.")
        self._beside = Beside(
            "alerts",
            self.look,
            LOOK_SECONDS,
            leave=self._leave,
            pause=self.wait,
            wake=lambda: self._results.put(None),
            patience=LEAVE_SECONDS + 1.0,
        )

    async def run(self) -> None:
        """Send until cancelled."""
        await self._beside.run()

    def _leave(self) -> None:
        end = time.monotonic() + LEAVE_SECONDS
        while self.on_their_way and (left := end - time.monotonic()) > 0:
            self.wait(left)
        self._guard.call(self._record)

    def look(self) -> None:
        """Record once what was sent, and send what is due. Never raises."""
        self._guard.call(self._look)

    def _look(self) -> None:
        self._record()
        if not any(self._matters()):
            self._lost_hosts.forget()
            return
        now = self._clock()
        incidents.close_settled(now)
        if time.monotonic() >= self.chores_at:
            self.chores_at = time.monotonic() + CHORES_SECONDS
            deliveries.give_up(now)
            incidents.tell_overdue(now)
            deliveries.remind(now)
            self._lost_hosts.look(now)
        free = AT_ONCE - len(self.on_their_way)
        if free:
            for delivery in deliveries.claim(now, self._me, limit=free, busy=self.on_their_way):
                self.on_their_way[delivery.channel_id] = delivery
                threading.Thread(target=self._deliver, args=[delivery], name="alert", daemon=True).start()

    def _deliver(self, delivery: Delivery) -> None:
        """Send one message, in a thread that does not touch the database."""
        try:
            self._send(delivery.channel.url, delivery.alert, str(delivery.pk))
        except transport.SendError as error:
            self._results.put(Result(delivery, str(error)))
        except Exception as error:
            log.exception("❌ [ALERTS] %s. The alert is tried again.", MISTAKE)
            self._results.put(Result(delivery, type(error).__name__))
        else:
            self._results.put(Result(delivery, ""))

    def wait(self, seconds: float) -> None:
        """Wait until a result came back, or until the time is over."""
        with contextlib.suppress(queue.Empty):
            self._take(self._results.get(timeout=seconds))
            while True:
                self._take(self._results.get_nowait())

    def _take(self, result: Result | None) -> None:
        if result is not None:
            self._unrecorded.append(result)
            self.on_their_way.pop(result.delivery.channel_id, None)

    def _record(self) -> None:
        while self._unrecorded:
            self._record_one(self._unrecorded[0])
            del self._unrecorded[0]

    def _record_one(self, result: Result) -> None:
        delivery, now = result.delivery, self._clock()
        server = delivery.incident.server.name
        what = f"{delivery.event} of {server} to {delivery.channel.name}"
        if not result.error:
            deliveries.sent(delivery, now)
            log.info("📣 [ALERTS] Sent: %s", what)
            return
        delay = deliveries.not_sent(delivery, self._me, result.error, now)
        log.warning("⚠️ [ALERTS] Not sent: %s. %s Next try in %s.", what, result.error, span(delay))
