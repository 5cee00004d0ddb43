"""kill -9 of the supervisor at every step of its work loses nothing.

Each case is one step: a supervisor dies there, and the next one brings everything to what was wished.
"""

from __future__ import annotations

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import requests

from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.faults.recovery_checks import LARGEST_LOG, left_behind, servers, wait_until_recovered
from tests.acceptance.test_hindered_starts import start_existing
from tests.deadline import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.harness import Proxy

KILLPOINT = str(Path(__file__).with_name("killpoint.py"))
OTHER_ARGS = ["-c", "256", "-t", "1"]
STUBBORN = ("--fake-ignore-sigterm",)
WITH_CHILD = ("--fake-child",)
SLOW_TO_ANSWER = ("--fake-token-seconds", "0.5")
SLOW_TO_LISTEN = ("--fake-refuse-seconds", "3")


# --- What was there before -----------------------------------------------------------------------------


def an_installation(proxy: Proxy) -> None:
    """Prepare an installation that has not run yet."""


def an_empty_directory(proxy: Proxy) -> None:
    shutil.rmtree(proxy.data_dir)


def a_strangers_server(proxy: Proxy) -> None:
    start_existing(proxy)


def a_demo(proxy: Proxy) -> None:
    """Prepare what `--demo` will set."""
    proxy.configure(llama_server_args=["-c", "2048", "-t", "1"])


def a_server_that_needs_room(proxy: Proxy) -> None:
    """Prepare a server with a group: as soon as there is one, room is made for servers."""
    proxy.configure(group="large")


def a_server_that_keeps_context(proxy: Proxy) -> None:
    proxy.configure(keep_context=True)


def a_server_with_an_alias(proxy: Proxy) -> None:
    proxy.configure(model_aliases=["chat"])


def an_orphan(proxy: Proxy) -> None:
    """The llama-server of a supervisor that was killed."""
    proxy.start(web=False).wait_for_status("ready")
    proxy.supervisor.kill()


# --- What happens to the supervisor, or before the next one comes --------------------------------------


def nothing(proxy: Proxy) -> None:
    """Prepare nothing."""


def crash(proxy: Proxy) -> None:
    psutil.Process(proxy.wait_for_status("ready")["pid"]).kill()


def stop(proxy: Proxy) -> None:
    proxy.wait_for_status("ready")
    proxy.llama("stop")


def restart(proxy: Proxy) -> None:
    proxy.wait_for_status("ready")
    proxy.llama("restart")


def restart_of_a_replica(proxy: Proxy) -> None:
    """Have another server answer to the same alias, on a node of which nobody knows anything."""
    proxy.wait_for_status("ready")
    proxy.server("twin", node="elsewhere", port=1, aliases=["chat"])
    proxy.llama("restart", "default")


def stop_while_it_answers(proxy: Proxy, wish: str = "stop") -> None:
    """Have a server answer somebody past the gateway, for longer than the supervisor lives."""
    url = proxy.wait_for_status("ready")["url"]
    (row,) = proxy.query("SELECT own_key FROM supervisor_app_llamaserver")
    headers = {"Authorization": f"Bearer {row['own_key']}"}
    Thread(target=ask_for_long, args=(url, headers), daemon=True).start()
    proxy.wait_for("it answers", lambda: any(slot["is_processing"] for slot in slots(url, headers)))
    proxy.llama(wish)


def restart_while_it_answers(proxy: Proxy) -> None:
    stop_while_it_answers(proxy, "restart")


def ask_for_long(url: str, headers: dict[str, str]) -> None:
    with suppress(requests.RequestException):
        body = {"prompt": "hi", "max_tokens": 1000}
        requests.post(f"{url}/completion", json=body, headers=headers, timeout=DEADLINE)


def slots(url: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    return list(requests.get(f"{url}/slots", headers=headers, timeout=DEADLINE).json())


def other_flags(proxy: Proxy) -> None:
    proxy.wait_for_status("ready")
    proxy.configure(llama_server_args=OTHER_ARGS)


def end(proxy: Proxy) -> None:
    proxy.wait_for_status("ready")
    proxy.supervisor.signal(signal.SIGTERM)


def long_log(proxy: Proxy) -> None:
    """Prepare a log that is due to be cut, beside nine older ones."""
    proxy.wait_for_status("ready")
    logs = proxy.data_dir / "logs"
    for number in range(1, 10):
        (logs / f"default.log.{number}").write_text(f"was {number}")
    with (logs / "default.log").open("ab") as log:
        log.write(b"x" * 2 * LARGEST_LOG)


def stop_unseen(proxy: Proxy) -> None:
    proxy.llama("stop")


def crash_unseen(proxy: Proxy) -> None:
    psutil.Process(proxy.status()["pid"]).kill()


def other_flags_unseen(proxy: Proxy) -> None:
    proxy.configure(llama_server_args=OTHER_ARGS)


def other_port_unseen(proxy: Proxy) -> None:
    proxy.configure(llama_server_port=proxy.web_port)


# --- The steps -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """The step at which the supervisor dies: `moment`, `place`, `about` and `nth` are killpoint.py's."""

    moment: str
    place: str
    about: str = ""
    nth: int = 1
    given: Callable[[Proxy], None] = an_installation
    when: Callable[[Proxy], None] = nothing
    then: Callable[[Proxy], None] = nothing
    lives: int = 1
    """Number of processes that there were in the end."""
    fake: tuple[str, ...] = ()
    """Flags of the scripted llama-server; none: the real one."""
    options: tuple[str, ...] = ()
    web: bool = False

    @property
    def through(self) -> list[str]:
        return [KILLPOINT, self.moment, self.place, "--nth", str(self.nth), "--about", self.about, "--"]


CORE = "supervisor_app.core"
COMMAND = "supervisor_app.roles.management.commands.runsupervisor"
LOCK = "supervisor_app.roles.lock:NodeLock.__enter__"
SAVE, WRITE = "supervisor_app.fleet.store:_save", "supervisor_app.fleet.store:_write"
PUBLISH = "supervisor_app.fleet.publish:ChannelPublisher.publish"
HEARTBEAT = "supervisor_app.fleet.store:_heartbeat"
APPLY = f"{CORE}.supervisor:ServerSupervisor.apply"
SPAWN, ADOPT = f"{CORE}.machine.processes:spawn_child", f"{CORE}.machine.processes:LocalProcesses.adopt"
TERMINATE, KILL = (
    f"{CORE}.machine.process:LocalProcess.terminate",
    f"{CORE}.machine.process:LocalProcess.kill",
)
COUNTED = f"{CORE}.lifecycle.decide:requests_seen"
BEGIN = f"{CORE}.lifecycle.decide:begin"
GIVE, SAVE_CONTEXT = f"{CORE}.room.orders:Orders._give", f"{CORE}.machine.contexts:LocalContexts.save"

STEPS = {
    # The very first start
    "the secret key is not in its place yet": Step(
        "before", "pathlib:Path.replace", "secret-key.", given=an_empty_directory
    ),
    "a migration is done and not noted": Step(
        "before",
        "django.db.migrations.executor:MigrationExecutor.record_migration",
        "sessions.0001",
        given=an_empty_directory,
    ),
    "the tables are made and nobody has rights": Step(
        "before", "django.core.management.commands.migrate:emit_post_migrate_signal", given=an_empty_directory
    ),
    "the demo model is half made": Step(
        "before", "gguf:GGUFWriter.write_tensors_to_file", given=a_demo, options=("--demo",)
    ),
    # A start
    "it does not hold the node yet": Step("before", LOCK),
    "it has just taken the node": Step("after", LOCK),
    "it has just taken the node in the database": Step("after", "supervisor_app.fleet.lease:Lease.take"),
    "the first server has no row": Step("before", f"{COMMAND}:_ensure_default"),
    "it is about to spawn": Step("before", f"{CORE}.machine.spawning:child_environment"),
    "the server is spawned and nobody knows": Step("after", SPAWN),
    "the state is written and the run is not": Step("before", WRITE, "RunOpened"),
    "the run is inserted and not committed": Step("after", WRITE, "RunOpened"),
    "the run has just been committed": Step("after", SAVE, "RunOpened"),
    "ready is seen and not written": Step("before", SAVE, "RunReady"),
    "ready is written and not told": Step("before", PUBLISH, "Status.READY", web=True),
    "it is about to say that it is there": Step("before", HEARTBEAT, "default"),
    # A crash
    "a crash is seen and not noted": Step(
        "before", f"{CORE}.chronicle:Chronicle._close", when=crash, lives=2
    ),
    "a crash is written and not committed": Step("after", WRITE, "RunClosed", when=crash, lives=2),
    "it waits before a retry": Step("after", SAVE, "RunClosed", when=crash, lives=2),
    "the wait before a retry is over": Step("before", BEGIN, nth=2, when=crash, lives=2),
    "the next server is spawned and nobody knows": Step("after", SPAWN, nth=2, when=crash, lives=2, web=True),
    # Room in memory
    "room is asked for and not given": Step("before", GIVE, given=a_server_that_needs_room),
    "room is given and nothing is spawned": Step("after", GIVE, given=a_server_that_needs_room, web=True),
    # Conversations that are kept
    "conversations are about to be saved before a stop": Step(
        "before", SAVE_CONTEXT, given=a_server_that_keeps_context, when=stop
    ),
    "conversations are saved and the server is not told to end": Step(
        "after", SAVE_CONTEXT, given=a_server_that_keeps_context, when=restart, lives=2
    ),
    # A stop
    "a stop is read and nothing is done": Step("before", APPLY, "desired_running=False", when=stop),
    "it has just sent SIGTERM": Step("after", TERMINATE, when=stop, web=True),
    "a stop is saved and the server is not gone": Step(
        "after", SAVE, "Status.STOPPING", when=stop, fake=STUBBORN
    ),
    "a stop is about to become SIGKILL": Step("before", KILL, when=stop, fake=STUBBORN),
    "a stopped server is gone and that is not saved": Step("before", SAVE, "RunClosed", when=stop),
    # The end of requests before a stop or restart
    "a stop waits for requests": Step("after", COUNTED, when=stop_while_it_answers, fake=SLOW_TO_ANSWER),
    "a restart waits for requests": Step(
        "after", COUNTED, nth=2, when=restart_while_it_answers, lives=2, fake=SLOW_TO_ANSWER
    ),
    "requests have ended and nobody was told to end": Step("before", TERMINATE, when=restart, lives=2),
    # A restart
    "a restart is read and nothing is done": Step(
        "before", APPLY, "restart_generation=2", when=restart, lives=2
    ),
    "a restart has just sent SIGTERM": Step("after", TERMINATE, when=restart, lives=2),
    "a restart is saved and the old server is not gone": Step(
        "after", SAVE, "Status.STOPPING", when=restart, lives=2, fake=STUBBORN
    ),
    "the old server is gone and the new one not there": Step(
        "before", f"{CORE}.lifecycle.ending:begin", when=restart, lives=2
    ),
    "it has its turn to restart and has not begun": Step(
        "after",
        "supervisor_app.fleet.turns:acquire",
        given=a_server_with_an_alias,
        when=restart_of_a_replica,
        lives=2,
    ),
    # Another configuration
    "other flags are read and nothing is done": Step("before", APPLY, "'256'", when=other_flags, lives=2),
    "the server with other flags is spawned and nobody knows": Step(
        "after", SPAWN, "'256'", when=other_flags, lives=2, web=True
    ),
    # Its own end
    "it is asked to end": Step("before", f"{CORE}.node:NodeSupervisor.shutdown", when=end),
    "it ends and has sent SIGTERM": Step("after", TERMINATE, when=end, lives=2),
    "it ends and the server does not": Step("before", KILL, when=end, lives=2, fake=STUBBORN),
    "it has stopped its servers": Step("after", f"{CORE}.node:NodeSupervisor.shutdown", when=end, lives=2),
    # Taking over
    "it has just adopted and nobody knows": Step("after", ADOPT, given=a_strangers_server),
    "the run of an adopted server is not committed": Step(
        "after", WRITE, "RunOpened", given=a_strangers_server
    ),
    "the run of an adopted server is committed": Step(
        "after", SAVE, "RunOpened", given=a_strangers_server, web=True
    ),
    "it resumes the server of the last supervisor": Step("after", ADOPT, given=an_orphan),
    "it has resumed the server of the last supervisor": Step("after", SAVE, "Status.READY", given=an_orphan),
    # A long log
    "the older logs are half moved": Step("before", "pathlib:Path.replace", "default.log.4", when=long_log),
    "the end of the log is half copied": Step(
        "after", "pathlib:Path.chmod", "default.log.part", when=long_log
    ),
    "the end of the log is copied and not in its place": Step(
        "before", "pathlib:Path.replace", "default.log.part", when=long_log
    ),
    "the log has just been cut": Step("after", "os:truncate", when=long_log),
    # What happens before the next supervisor comes
    "a server that nobody knows is to stop": Step("after", SPAWN, then=stop_unseen),
    "a server that nobody knows is to have other flags": Step(
        "after", SPAWN, then=other_flags_unseen, lives=2
    ),
    "a server that nobody knows is to listen elsewhere": Step(
        "after", SPAWN, then=other_port_unseen, lives=2
    ),
    "a server with a child is to crash": Step(
        "after", SAVE, "RunReady", then=crash_unseen, lives=2, fake=WITH_CHILD
    ),
    "a server that nobody knows does not listen yet": Step("after", SPAWN, fake=SLOW_TO_LISTEN),
}


@pytest.fixture(scope="module")
def recovered(request, make_shared, engine, model):
    """Live through every step that is asked for, several at a time, because most of it is waiting."""
    steps = [item.callspec.params["step"] for item in request.session.items if item.module is request.module]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {step: pool.submit(live_through, step, make_shared, str(model)) for step in steps}
        pool.shutdown(cancel_futures=True)


def live_through(step: Step, make_proxy: Callable[..., Proxy], model: str) -> Proxy:
    """The proxy, as it ended, after a supervisor was killed there and the next one has made it good."""
    proxy = make_proxy(llama_model_path=model, llama_server_args=ENGINE_ARGS, retry_backoff_ms=100)
    if step.fake:
        proxy.script(*step.fake, stop_grace_ms=300, drain_seconds=3)
    step.given(proxy)
    proxy.start(*step.options, web=False, through=step.through, loaded=True)
    step.when(proxy)
    assert proxy.supervisor.wait() == -signal.SIGKILL, proxy.evidence()
    left = left_behind(proxy)
    step.then(proxy)
    proxy.start(*step.options, web=step.web)
    wait_until_recovered(proxy, left)
    assert proxy.stop() == 0, proxy.evidence()
    return proxy


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_nothing_is_lost_when_the_supervisor_is_killed_while(recovered, step):
    proxy = recovered[step].result()
    assert len(proxy.runs()) == step.lives, proxy.evidence()
    assert len(servers(proxy)) == (step.given is a_strangers_server)
    assert not proxy.engines()
    if step.when is long_log:
        logs = proxy.data_dir / "logs"
        older = [(logs / f"default.log.{number}").read_text() for number in range(2, 10)]
        assert older == [f"was {number}" for number in range(1, 9)]
        assert (logs / "default.log.1").stat().st_size == LARGEST_LOG
