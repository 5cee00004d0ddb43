"""The small values: specs, policies, snapshots, sentences, timelines, load times, the clock."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle import Phase, Policy, State
from supervisor_app.core.machine.clock import SystemClock
from supervisor_app.core.server_config import Wish
from supervisor_app.core.sightings import Exit, Identity, PortHolder
from supervisor_app.core.spec import HealthPolicy, LaunchSpec, RestartPolicy
from supervisor_app.core.status import (
    FailureKind,
    LlamaStatus,
    Model,
    Progress,
    RunSummary,
    Status,
    iso,
)
from supervisor_app.core.testing import FakeClock, make_config, make_spec, settle
from supervisor_app.core.timeline import Timeline
from supervisor_app.core.watch.loading import LoadWatch
from supervisor_app.core.wording import last_error, sentence

BROKEN = failure_of(FailureKind.EXITED, "code 1")


# The public contract


def test_the_status_words_are_the_contract():
    assert [status.value for status in Status] == [
        "initial",
        "starting",
        "ready",
        "crashed",
        "error",
        "stopping",
    ]


def test_the_json_has_the_originals_fields_and_ours():
    status = LlamaStatus(
        name="default",
        status=Status.READY,
        models=(Model(id="m", name="M", size=4, modified_at=5),),
        started_at=1_766_743_200.0,
        progress=Progress(loaded=1, total=2, eta_seconds=3.04),
        failure=BROKEN,
    )
    data = status.as_json(now=1_766_746_800.9)
    assert data["status"] == "ready"
    assert data["uptime"] == 3600
    assert data["startedAt"] == "2025-12-26T10:00:00.000Z"
    assert data["models"] == [
        {"id": "m", "name": "M", "size": 4, "type": "llama", "modified_at": 5, "status": "available"}
    ]
    assert data["lastError"] is None
    assert data["retries"] == 0
    assert data["failure"]["kind"] == "exited"
    assert data["progress"] == {"loaded": 1, "total": 2, "percent": 50, "etaSeconds": 3.0}


def test_a_stopped_server_has_no_uptime_and_a_clock_set_back_gives_no_negative():
    assert LlamaStatus(name="x").uptime(100.0) == 0
    assert LlamaStatus(name="x", started_at=200.0).uptime(100.0) == 0


def test_no_time_is_no_text():
    assert iso(None) is None


def test_progress_is_not_complete_before_the_server_says_so():
    assert Progress(loaded=100, total=100).percent == 99
    assert Progress(loaded=0, total=0).percent == 0
    assert Progress(loaded=0, total=0).as_json()["etaSeconds"] is None


def test_a_failure_without_detail_is_its_title():
    assert failure_of(FailureKind.EXITED).sentence == failure_of(FailureKind.EXITED).title


def test_a_run_is_open_until_it_ended():
    assert RunSummary(retry=0, adopted=False, started_at=1.0).open
    assert not RunSummary(retry=0, adopted=False, started_at=1.0, ended_at=2.0).open


# Specs and policies


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", "http://localhost:8134"),
        # A wildcard is reached over loopback.
        ("0.0.0.0", "http://127.0.0.1:8134"),
        ("::", "http://[::1]:8134"),
        # An IPv6 address wants brackets.
        ("fe80::1", "http://[fe80::1]:8134"),
    ],
)
def test_where_a_server_is_reached(host, url):
    spec = LaunchSpec(host=host, port=8134, command=("x",), args=())
    assert spec.url == url
    assert spec.public_url == url


@pytest.mark.parametrize(
    ("name", "url"),
    [("gpu-1.lan", "http://gpu-1.lan:8134"), ("fd00::7", "http://[fd00::7]:8134")],
)
def test_where_other_hosts_reach_a_server(name, url):
    spec = LaunchSpec(host="0.0.0.0", port=8134, command=("x",), args=(), advertised_host=name)
    assert (spec.url, spec.public_url) == ("http://127.0.0.1:8134", url)


def test_another_name_for_other_hosts_starts_the_same_process():
    named, unnamed = (
        LaunchSpec(host="0.0.0.0", port=1, command=(), args=(), advertised_host=name)
        for name in ("gpu-1", "")
    )
    assert named == unnamed


def test_the_command_comes_before_the_flags():
    assert make_spec().argv == ("llama-server", "-m", "model.gguf")


def test_the_model_file_is_relative_to_the_working_directory():
    assert str(make_spec().model_file) == "/srv/model.gguf"
    assert LaunchSpec(host="h", port=1, command=(), args=()).model_file is None


def test_a_secret_is_not_in_the_words_of_a_spec():
    spec = LaunchSpec(host="h", port=1, command=(), args=(), api_key="hunter2")
    assert "hunter2" not in repr(spec)


def test_the_defaults_are_the_originals():
    restart, health = RestartPolicy(), HealthPolicy()
    assert [restart.backoff(retry) for retry in range(1, 7)] == [1, 2, 4, 8, 16, 30]
    assert (restart.max_retries, restart.stop_grace_ms, restart.stable_after_ms) == (5, 5000, 60_000)
    assert (health.interval_ms, health.timeout_ms, health.max_checks) == (1000, 5000, 60)
    assert health.max_silence == 60.0


@pytest.mark.parametrize(
    ("config", "seen", "wish"),
    [
        (make_config(generation=1), 1, None),
        (make_config(generation=2), 1, Wish.START),
        (make_config(generation=2, desired_running=False), 1, Wish.STOP),
        (make_config(generation=2, restart_generation=2), 1, Wish.RESTART),
        # The restart was obeyed before, the start after it not.
        (make_config(generation=3, restart_generation=2), 2, Wish.START),
        # Restarted and then stopped: stopped.
        (make_config(generation=3, restart_generation=2, desired_running=False), 1, Wish.STOP),
        # From a backup of the database: it tells what should run, and its restart was obeyed long ago.
        (make_config(generation=3, restart_generation=2), 9, Wish.START),
        (make_config(generation=3, desired_running=False), 9, Wish.STOP),
    ],
)
def test_the_wish_since_a_generation_is_found(config, seen, wish):
    assert config.wish_since(seen) is wish


# Words


@pytest.mark.parametrize(
    ("exit", "words"),
    [
        (Exit(code=1), "code 1 signal null"),
        (Exit(signal=9), "code null signal 9"),
        (Exit(), "code null signal null"),
    ],
)
def test_an_exit_is_told_in_the_words_of_the_original(exit, words):
    assert str(exit) == words


def test_a_port_holder_names_itself():
    me = Identity(pid=7, start=1, boot_id="b")
    assert str(PortHolder(identity=me, command="nc -l", is_llama_server=False)) == "pid 7 (nc -l)"
    hidden = PortHolder(identity=None, command="", is_llama_server=False)
    assert str(hidden) == "a process of another user"
    assert str(replace(hidden, foreign_user="bob, uid 9")) == "a process of another user (bob, uid 9)"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State(), "Not running. Start it to serve http://localhost:8134."),
        (
            State(note="It was stopped."),
            "It was stopped. Not running. Start it to serve http://localhost:8134.",
        ),
        (State(status=Status.STARTING, phase=Phase.INSPECTING), "Looking who listens on port 8134."),
        (State(status=Status.STARTING, phase=Phase.SPAWNING), "Starting llama-server."),
        (State(status=Status.STARTING, phase=Phase.WAITING), "Waiting for its first answer."),
        (State(status=Status.STARTING, phase=Phase.WAITING, loading=True), "Loading the model."),
        (State(status=Status.STARTING, phase=Phase.READING_MODELS), "It answers; reading its models."),
        (
            State(status=Status.STARTING, phase=Phase.SPAWNING, retries=2),
            "Retry 2 of 5: starting llama-server.",
        ),
        (
            State(status=Status.READY, phase=Phase.SERVING, adopted=True),
            "Serving 0 models on http://localhost:8134. It was running already, so it was taken over.",
        ),
        (
            State(status=Status.CRASHED, phase=Phase.BACKOFF, retries=3, failure=BROKEN),
            f"{BROKEN.sentence}. Retry 3 of 5 after 4 s.",
        ),
        (
            State(status=Status.CRASHED, phase=Phase.ENDING),
            "It went down. Ending the process before the next try.",
        ),
        (
            State(status=Status.ERROR, failure=BROKEN, retries=5),
            f"{BROKEN.sentence}. Gave up after 5 retries: press Start to try again.",
        ),
        (
            State(status=Status.ERROR),
            "It could not be started. Gave up after 0 retries: press Start to try again.",
        ),
        (
            State(status=Status.STOPPING, phase=Phase.ENDING, kill_at=1.0, start_next=True),
            "Asked to end; SIGKILL follows after 5 s. It starts again after that.",
        ),
        (
            State(status=Status.STOPPING, phase=Phase.ENDING),
            "It did not end in time and was sent SIGKILL.",
        ),
    ],
)
def test_every_state_has_a_sentence(state, words):
    assert sentence(state, Policy(), make_spec()) == words


def test_a_permanent_failure_says_that_it_mends_itself():
    state = State(status=Status.ERROR, failure=failure_of(FailureKind.MODEL_MISSING, "x.gguf"))
    assert "starts by itself once that is mended" in sentence(state, Policy(), make_spec())


def test_the_last_error_names_the_retry_it_led_to():
    assert last_error(State(), Policy()) is None
    assert last_error(State(failure=BROKEN), Policy()) == BROKEN.sentence
    assert last_error(State(failure=BROKEN, retries=2), Policy()) == f"{BROKEN.sentence} (retry 2/5)"


# What memory had to do with it


def down(**changes) -> LlamaStatus:
    lived = RunSummary(
        retry=0, adopted=False, started_at=1.0, ended_at=2.0, failure=BROKEN, memory="It used 1 GiB."
    )
    return LlamaStatus(
        **{"name": "a", "status": Status.CRASHED, "failure": BROKEN, "runs": (lived,), **changes}
    )


def test_a_server_that_is_down_says_what_its_last_life_used():
    assert down().memory == "It used 1 GiB."
    assert down(status=Status.ERROR).memory == "It used 1 GiB."


@pytest.mark.parametrize(
    "changes",
    [
        {"status": Status.READY},
        {"runs": ()},
        {"failure": None},
        {"failure": failure_of(FailureKind.PORT_TAKEN)},  # it did not even start since
    ],
)
def test_memory_of_another_failure_is_not_told(changes):
    assert down(**changes).memory == ""


def test_warnings_are_in_the_json():
    assert LlamaStatus(name="a", warnings=("Slow.",)).as_json(0)["warnings"] == ["Slow."]


# Timelines


def test_a_timeline_opens_gets_ready_and_closes():
    timeline = Timeline()
    assert timeline.current is None
    assert not timeline.ready(1.0)
    timeline.closed(1.0, Exit(code=0), None)
    timeline.opened(1.0, retry=2, adopted=False)
    assert timeline.ready(2.0)
    assert not timeline.ready(3.0), "only the first time counts"
    timeline.closed(4.0, Exit(signal=9), BROKEN)
    assert timeline.current is None
    (run,) = timeline.newest_first
    assert (run.ready_at, run.ended_at, run.signal, run.failure) == (2.0, 4.0, 9, BROKEN)


# Loading


def test_the_eta_is_the_median_of_past_starts_less_what_has_passed():
    watch = LoadWatch((10.0, 30.0))
    watch.learned(20.0)
    assert watch.progress(1, 10, elapsed=5.0).eta_seconds == 15.0
    assert watch.progress(1, 10, elapsed=25.0).eta_seconds is None


def test_without_past_starts_there_is_no_eta():
    progress = LoadWatch().progress(2 * 1024**3, 1024**3, elapsed=5.0)
    assert progress.eta_seconds is None
    assert progress.loaded == progress.total
    assert LoadWatch.line(progress) == "⏳ [LLAMA] Loading the model: 99 % (1.0 GiB of 1.0 GiB)"


# Clocks


async def test_the_real_clock_sleeps_until_a_deadline_and_not_for_one_that_has_passed():
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep_until(before - 5)
    await clock.sleep_until(before + 0.01)
    assert clock.monotonic() >= before + 0.01
    assert abs(clock.time() - time.time()) < 5


async def test_the_fake_clock_wakes_sleepers_in_the_order_of_their_deadlines():

    clock, woken = FakeClock(), []

    async def sleeper(seconds):
        await clock.sleep_until(seconds)
        woken.append((seconds, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3, 1, 2)]
    await settle()
    await clock.advance(2.5)
    assert woken == [(1, 1), (2, 2)]
    await clock.advance(1)
    assert woken[-1] == (3, 3)
    await asyncio.gather(*tasks)


def test_a_random_key_is_not_for_a_process_that_was_found():
    own = replace(make_spec(), api_key="sk-random", has_own_key=True)
    assert own.found.api_key == ""
    said = replace(own, has_own_key=False)
    assert said.found.api_key == "sk-random"
