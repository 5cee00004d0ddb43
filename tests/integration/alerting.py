"""A server that goes down and comes up, a channel that hears of it, and time that moves when told to."""

from __future__ import annotations

from supervisor_app.alerts.models import AlertChannel, Incident
from supervisor_app.alerts.sender import AlertSender
from supervisor_app.core.status import Status
from supervisor_app.fleet.store import _save
from supervisor_app.roles.store_hooks import STORE_HOOKS
from tests.integration.building import OUT_OF_MEMORY, change, make_server

HOUR = 3600.0


class World:
    """A server, a channel, a sender, and time that moves when told to."""

    def __init__(self, clock, hook, **fields):
        self.clock, self.hook = clock, hook
        self.server = make_server(**fields)
        self.channel = make_channel(hook.url)
        self.sender = AlertSender(node="local", clock=clock)

    def see(self, status, *, wait=0.0, events=(), failure=None, name="default", **fields):
        """The supervisor saves a state, so many seconds after the last."""
        self.clock.now += wait
        if status in ("crashed", "error"):
            failure = failure or OUT_OF_MEMORY
        fields.setdefault("ready_at", self.clock.now if status == "ready" else None)
        fields.setdefault("started_at", self.clock.now if status == "ready" else None)
        fields.setdefault("detail", f"{status}.")
        _save(
            "local",
            change(name, *events, status=Status(status), failure=failure, **fields),
            STORE_HOOKS.follow,
        )

    def look(self, wait=0.0):
        """The sender looks, sends what is due and records it."""
        self.clock.now += wait
        self.sender.chores_at = 0
        self.sender.look()
        while self.sender.on_their_way:
            self.sender.wait(10)
        self.sender.look()
        while self.sender.on_their_way:
            self.sender.wait(10)
        self.sender.look()

    @property
    def incident(self):
        return Incident.objects.get()


def make_channel(url="https://example.org/", name="ops", servers=(), **fields):
    channel = AlertChannel.objects.create(name=name, url=url, **fields)
    channel.servers.set(servers)
    return channel
