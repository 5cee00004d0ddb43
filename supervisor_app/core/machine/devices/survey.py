"""All devices of this machine in one look, which takes no longer than its patience, whatever drivers do."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from supervisor_app.common.words import span
from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.machine.devices.apple import sysctl, unified_memory
from supervisor_app.core.machine.devices.drm import has_cards, has_nvidia, read_drm
from supervisor_app.core.machine.devices.host import host_memory
from supervisor_app.core.machine.devices.nvidia import NvidiaReader, load_nvml
from supervisor_app.core.machine.family import family_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PATIENCE = 5.0
"""Seconds that all sources together have for an answer."""
NO_NVML = "A GPU of NVIDIA is here, but nothing to ask it with: pip install 'llamaproxy[nvidia]'."


@dataclass
class Source:
    """A source of answers, asked in a thread of its own, and not again while an answer is awaited."""

    name: str
    ask: Callable[[frozenset[int]], Survey]
    hangs: bool = True
    """A driver has to answer. Whatever the kernel itself knows is asked without a thread."""
    asking: threading.Thread | None = None
    answer: Survey | None = None

    def start(self, ours: frozenset[int]) -> threading.Thread | None:
        """Return the thread that asks, or the one that still does; None: the answer is there."""
        if not self.hangs:
            self._run(ours)
            return None
        if self.asking is None or not self.asking.is_alive():
            self.answer = None
            self.asking = threading.Thread(target=self._run, args=(ours,), name=self.name, daemon=True)
            self.asking.start()
        return self.asking

    def result(self, asking: threading.Thread | None, patience: float) -> Survey:
        if asking is not None:
            asking.join(max(0.0, patience))
        if self.answer is None:
            return Survey(problems=(f"{self.name} has not answered for {span(PATIENCE)}.",))
        return self.answer

    def _run(self, ours: frozenset[int]) -> None:
        try:
            self.answer = self.ask(ours)
        except Exception as error:  # a driver's library may raise anything: a line, and the others go on
            self.answer = Survey(problems=(f"{self.name} cannot be read: {error!r}.",))


class Surveyor:
    """Looks at each source there is. Blocking, for a thread; one caller at a time."""

    def __init__(self, sources: Iterable[Source], family: Callable[[int], Iterable[int]] = family_of) -> None:
        """`family`: a process and its children."""
        self._sources = tuple(sources)
        self._family = family

    def survey(self, pids: Iterable[int], patience: float = PATIENCE) -> Survey:
        """Look at all devices; what these processes and their children use counts as ours.

        Raises OSError and RuntimeError for want of our own, such as threads.
        """
        servers = {member: pid for pid in pids for member in self._family(pid)}
        ours = frozenset(servers)
        deadline = time.monotonic() + patience
        asking = [source.start(ours) for source in self._sources]
        found = Survey.of_all(
            source.result(thread, deadline - time.monotonic())
            for source, thread in zip(self._sources, asking, strict=True)
        )
        return replace(found, devices=tuple(_by_server(device, servers) for device in found.devices))


def _by_server(device: Device, servers: Mapping[int, int]) -> Device:
    """Count what a child uses as used by its server."""
    users: dict[int, int] = {}
    for member, count in device.users.items():
        if member in servers:  # an answer to an earlier question may tell of others
            users[servers[member]] = users.get(servers[member], 0) + count
    return replace(device, users=users)


def this_machine(proc: Path = Path("/proc"), sysfs: Path = Path("/sys")) -> Surveyor:
    """Return a surveyor of the machine that we run on."""
    if sys.platform == "darwin":
        return Surveyor([Source("The Mac's memory", memory_of_mac)])
    nvml = load_nvml()
    nvidia = NvidiaReader(nvml).read if nvml is not None else partial(_without_nvml, sysfs)
    host = Source("The host's memory", lambda ours: host_memory(proc, sysfs / "fs/cgroup", ours), hangs=False)
    return Surveyor(
        [
            host,
            Source("NVIDIA's driver", nvidia, hangs=nvml is not None),
            Source("The drivers of GPUs", lambda ours: read_drm(sysfs, proc, ours), hangs=has_cards(sysfs)),
        ]
    )


def _without_nvml(sysfs: Path, ours: frozenset[int]) -> Survey:
    return Survey(problems=(NO_NVML,)) if has_nvidia(sysfs) else Survey()


def memory_of_mac(ours: frozenset[int]) -> Survey:
    """Look at the memory of the Mac that we run on."""
    used = 0
    for pid in ours:
        try:
            used += psutil.Process(pid).memory_info().rss
        except psutil.Error:
            continue
    return unified_memory(sysctl, psutil.virtual_memory().available, used)
