"""kill -9 of the supervisor at every step of its work loses nothing.

Each case is one step: a supervisor dies there, the next one must bring everything to what was wished.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.faults.recovery_checks import left_behind, servers, wait_until_recovered
from tests.acceptance.harness import Proxy
from tests.acceptance.test_startup import start_existing

KILLPOINT = str(Path(__file__).with_name("killpoint.py"))
MEGABYTE = 2**20
STUBBORN = ("--fake-ignore-sigterm",)
SLOW_TO_LISTEN = ("--fake-refuse-seconds", "4")


# --- What happens to it --------------------------------------------------------------------------------


def nothing(proxy: Proxy) -> None:
    """It dies by itself."""


def crash(proxy: Proxy) -> None:
    psutil.Process(proxy.wait_for_status("ready")["pid"]).kill()


def stop(proxy: Proxy) -> None:
    proxy.wait_for_status("ready")
    proxy.llama("stop")


def restart(proxy: Proxy) -> None:
    proxy.wait_for_status("ready")
    proxy.llama("restart")


def change(proxy: Proxy) -> None:
    proxy.wait_for_status("ready")
    proxy.configure(llama_server_args=["-c", "256", "-t", "1"])


def end(proxy: Proxy) -> None:
    proxy.wait_for_status("ready")
    proxy.supervisor.signal(signal.SIGTERM)


def babble(proxy: Proxy) -> None:
    """Its log is due to be cut; nine older ones lie there."""
    proxy.wait_for_status("ready")
    logs = proxy.data_dir / "logs"
    for number in range(1, 10):
        (logs / f"default.log.{number}").write_text(f"was {number}")
    with (logs / "default.log").open("ab") as log:
        log.write(b"x" * 12 * MEGABYTE)


# --- What was there before, and what happens before the next one comes ---------------------------------


def nobody(proxy: Proxy) -> None:
    """An installation that has not run yet."""


def first_start(proxy: Proxy) -> None:
    shutil.rmtree(proxy.data_dir)


def a_stranger(proxy: Proxy) -> None:
    """A llama-server that somebody else started."""
    start_existing(proxy)


def an_orphan(proxy: Proxy) -> None:
    """The llama-server of a supervisor that was killed."""
    proxy.start(web=False).wait_for_status("ready")
    proxy.supervisor.kill()


def meanwhile_stop(proxy: Proxy) -> None:
    proxy.llama("stop")


def meanwhile_change(proxy: Proxy) -> None:
    proxy.configure(llama_server_args=["-c", "256", "-t", "1"])


def meanwhile_move(proxy: Proxy) -> None:
    proxy.configure(llama_server_port=proxy.engine_port + 1)


@dataclass(frozen=True)
class Step:
    """`moment` and `place` are killpoint.py's."""

    moment: str
    place: str
    about: str = ""
    nth: int = 1
    given: Callable[[Proxy], None] = nobody
    when: Callable[[Proxy], None] = nothing
    then: Callable[[Proxy], None] = nothing
    fake: tuple[str, ...] = ()
    """Flags of the scripted llama-server; none: the real one."""
    options: tuple[str, ...] = ()
    web: bool = False

    @property
    def through(self) -> list[str]:
        return [KILLPOINT, self.moment, self.place, "--nth", str(self.nth), "--about", self.about, "--"]


COMMAND = "supervisor_app.management.commands.runsupervisor"
CORE = "supervisor_app.core"
SAVE, WRITE = "supervisor_app.store:_save", "supervisor_app.store:_write"
SPAWN = f"{CORE}.processes:_spawn"
BEGIN_AGAIN = f"{CORE}.lifecycle.decide:begin"
TERMINATE, KILL = f"{CORE}.process:LocalProcess.terminate", f"{CORE}.process:LocalProcess.kill"
ROTATE = f"{CORE}.logs:LogFile"

STEPS = {
    # The very first start
    "the secret key is written but not in its place": Step(
        "before", "llamaproxy.env:os.link", given=first_start
    ),
    "a migration is done and not noted": Step(
        "before",
        "django.db.migrations.executor:MigrationExecutor.record_migration",
        about="supervisor_app.0001",
        given=first_start,
    ),
    "the tables are made and nobody has rights yet": Step(
        "before", "django.core.management.commands.migrate:emit_post_migrate_signal", given=first_start
    ),
    "the demo model is half made": Step(
        "before",
        "gguf:GGUFWriter.write_tensors_to_file",
        given=first_start,
        options=("--demo",),
    ),
    # A start
    "it does not hold the node yet": Step("before", "supervisor_app.lock:NodeLock.__enter__"),
    "it has just taken the node": Step("after", "supervisor_app.lock:NodeLock.__enter__"),
    "the first server has no row yet": Step("before", f"{COMMAND}:_ensure_default"),
    "it has not looked at the port yet": Step("before", f"{CORE}.processes:LocalProcesses._port_holder"),
    "it has seen that the port is free": Step("after", f"{CORE}.processes:LocalProcesses._port_holder"),
    "it is about to spawn llama-server": Step("before", f"{CORE}.processes:child_environment"),
    "llama-server is spawned and nobody knows": Step("after", SPAWN),
    "the new run is about to be saved": Step("before", SAVE, "RunOpened"),
    "the state is written, the run is not": Step("before", WRITE, "RunOpened"),
    "the run is inserted and not committed": Step("after", WRITE, "RunOpened"),
    "the run has just been committed": Step("after", SAVE, "RunOpened"),
    "ready is seen and not written": Step("before", SAVE, "RunReady"),
    "ready is written and not told": Step(
        "before", "supervisor_app.publish:ChannelPublisher.publish", "Status.READY", web=True
    ),
    "ready has just been told": Step(
        "after", "supervisor_app.publish:ChannelPublisher.publish", "Status.READY", web=True
    ),
    "it is about to say that it is there": Step("before", "supervisor_app.store:_heartbeat", "default"),
    "it has just said that it is there": Step("after", "supervisor_app.store:_heartbeat", "default"),
    # A crash
    "a crash is seen and not noted": Step("before", f"{CORE}.chronicle:Chronicle._close", when=crash),
    "a crash is about to be saved": Step("before", SAVE, "RunClosed", when=crash),
    "a crash is written and not committed": Step("after", WRITE, "RunClosed", when=crash),
    "it waits before a retry": Step("after", SAVE, "RunClosed", when=crash),
    "the wait before a retry is over": Step("before", BEGIN_AGAIN, nth=2, when=crash),
    "the next llama-server is spawned and nobody knows": Step("after", SPAWN, nth=2, when=crash, web=True),
    "the run of the next one is not committed": Step("after", WRITE, "RunOpened", nth=2, when=crash),
    "the run of the next one has just been committed": Step("after", SAVE, "RunOpened", nth=2, when=crash),
    # A stop
    "the wish to stop is read and nothing done": Step(
        "before", f"{CORE}.supervisor:ServerSupervisor.apply", "desired_running=False", when=stop
    ),
    "it is about to send SIGTERM": Step("before", TERMINATE, when=stop),
    "SIGTERM has just been sent": Step("after", TERMINATE, when=stop, web=True),
    "a server that ignores SIGTERM was asked to stop": Step("after", TERMINATE, when=stop, fake=STUBBORN),
    "a stop is saved and the server is not gone": Step(
        "after", SAVE, "Status.STOPPING", when=stop, fake=STUBBORN
    ),
    "a stop is about to become SIGKILL": Step("before", KILL, when=stop, fake=STUBBORN),
    "a stop has just become SIGKILL": Step("after", KILL, when=stop, fake=STUBBORN),
    "a stopped server is gone and that is not saved": Step("before", SAVE, "RunClosed", when=stop),
    "a stop has just been saved": Step("after", SAVE, "RunClosed", when=stop),
    # A restart
    "the wish to restart is read and nothing done": Step(
        "before", f"{CORE}.supervisor:ServerSupervisor.apply", "restart_generation=2", when=restart
    ),
    "a server that is to restart has got SIGTERM": Step("after", TERMINATE, when=restart),
    "a restart is saved and the server is not gone": Step(
        "after", SAVE, "Status.STOPPING", when=restart, fake=STUBBORN
    ),
    "a restart is about to become SIGKILL": Step("before", KILL, when=restart, fake=STUBBORN),
    "a server that is to restart is gone": Step(
        "before", f"{CORE}.lifecycle.transitions:begin", when=restart
    ),
    "the restarted one is spawned and nobody knows": Step("after", SPAWN, nth=2, when=restart),
    # A changed configuration
    "a changed configuration is read and nothing done": Step(
        "before", f"{CORE}.supervisor:ServerSupervisor.apply", "'256'", when=change
    ),
    "a changed configuration ends the old server": Step("after", TERMINATE, when=change),
    "the server with the changed configuration is spawned and nobody knows": Step(
        "after", SPAWN, "'256'", when=change
    ),
    # A shutdown
    "it is asked to end": Step("before", f"{CORE}.node:NodeSupervisor.shutdown", when=end),
    "it ends and has sent SIGTERM": Step("after", TERMINATE, when=end),
    "it ends and the server does not": Step("before", KILL, when=end, fake=STUBBORN),
    "it ends and the last state is not saved": Step("before", f"{CORE}.node:NodeSupervisor._close", when=end),
    "it has all but ended": Step("after", f"{CORE}.node:NodeSupervisor.shutdown", when=end, web=True),
    # Taking over
    "it is about to adopt": Step("before", f"{CORE}.processes:LocalProcesses.adopt", given=a_stranger),
    "it has just adopted": Step("after", f"{CORE}.processes:LocalProcesses.adopt", given=a_stranger),
    "the run of an adopted one is not committed": Step("after", WRITE, "RunOpened", given=a_stranger),
    "an adopted one is on record": Step("after", SAVE, "RunOpened", given=a_stranger, web=True),
    "it looks for the process of the last one": Step(
        "before", f"{CORE}.processes:LocalProcesses.find", given=an_orphan
    ),
    "it resumes the process of the last one": Step(
        "after", f"{CORE}.processes:LocalProcesses.adopt", given=an_orphan
    ),
    "it has resumed the process of the last one": Step("after", SAVE, "Status.READY", given=an_orphan),
    # What happens before the next one comes
    "one that nobody knows is to stop": Step("after", SPAWN, then=meanwhile_stop),
    "one that nobody knows runs on old flags": Step("after", SPAWN, then=meanwhile_change),
    "one that nobody knows is to listen elsewhere": Step("after", SPAWN, then=meanwhile_move),
    "one that nobody knows does not listen yet": Step("after", SPAWN, fake=SLOW_TO_LISTEN),
    "a known one is to stop": Step("after", SAVE, "RunReady", then=meanwhile_stop),
    "a known one is to listen elsewhere": Step("after", SAVE, "RunReady", then=meanwhile_move),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_nothing_is_lost_when_the_supervisor_is_killed_while(make_proxy, engine, model, step):
    proxy = make_proxy(llama_model_path=str(model), llama_server_args=ENGINE_ARGS, retry_backoff_ms=100)
    if step.fake:
        proxy.script(*step.fake, stop_grace_ms=300)
    step.given(proxy)
    proxy.start(*step.options, web=False, through=step.through)
    step.when(proxy)
    assert proxy.supervisor.wait() == -signal.SIGKILL
    left = left_behind(proxy)
    step.then(proxy)
    proxy.start(*step.options, web=step.web)
    wait_until_recovered(proxy, left)
    assert proxy.stop() == 0
    assert len(servers(proxy)) == (step.given is a_stranger)
