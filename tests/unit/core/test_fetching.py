"""Models that llama-server fetches itself: a download that gets on has all the time, a network that is away, too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core import lifecycle
from supervisor_app.core.command_line.fetching import fetches, names_repository, repository_of
from supervisor_app.core.diagnosis.diagnose import diagnose
from supervisor_app.core.lifecycle import Phase
from supervisor_app.core.shortage import ShortageError
from supervisor_app.core.sightings import Exit, Health
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import make_config, make_spec
from supervisor_app.core.wording import sentence
from tests.unit.core.deciding import POLICY, Server
from tests.unit.core.supervising import bench

HF = make_spec(args=("-hf", "a/b"))


@pytest.mark.parametrize(
    ("args", "repository", "fetched"),
    [
        (("-hf", "a/b"), True, True),
        (("--hf-repo", "a/b:Q4"), True, True),
        (("-dr", "ai/smollm2"), True, True),
        (("--hf_repo", "a/b"), True, True),
        (("--model_url", "http://x/a.gguf"), False, True),
        (("--embd-gemma-default",), True, True),
        (("--fim-qwen-7b-spec",), True, True),
        (("-hf", "a/b", "--offline"), True, False),
        (("-m", "a.gguf", "-mu", "http://x/a.gguf"), False, True),
        (("-m", "a.gguf", "--mmproj-url", "http://x/a.gguf"), False, True),
        (("-m", "a.gguf", "-c", "512"), False, False),
    ],
)
def test_the_flags_that_fetch_a_model_are_known(args, repository, fetched):
    assert names_repository(args) == repository
    assert fetches(args) == fetched
    assert replace(HF, args=args).fetches == fetched


@pytest.mark.parametrize(
    ("args", "repository"),
    [
        (("-c", "512", "-hf", "a/b:Q4"), "a/b:Q4"),
        (("--docker_repo", "ai/smollm2"), "ai/smollm2"),
        (("--embd-gemma-default",), "embd-gemma-default"),
        (("-hf",), "-hf"),
        ((), ""),
        (("-mu", "http://x/a.gguf"), ""),
    ],
)
def test_the_repository_of_a_model_is_known(args, repository):
    assert repository_of(args) == repository


# As b11669 says it


@pytest.mark.parametrize(
    "line",
    [
        "0.00.056.839 E srv  llama_server: failed to download model: Download 'http://x/a' failed with status code: -1",
        "0.00.077.006 E get_repo_commit: error: HTTPLIB failed: Could not establish connection",
        "0.00.081.436 E common_docker_resolve_model: Docker Model download failed: error: cannot make GET request",
        "0.00.081.515 E srv  llama_server: failed to download model: error: cannot make GET request",
    ],
)
def test_a_network_that_is_away_is_no_missing_model(line):
    later = "0.00.092.754 E cmn  common_init_: failed to load model ''"
    found = diagnose(Exit(code=1), [line, later], was_ready=False, spec=HF)
    assert found.failure.kind is FailureKind.DOWNLOAD_FAILED
    assert not found.failure.permanent


def test_a_model_that_is_not_there_waits_for_a_person():
    line = "0.00.1 E srv  llama_server: failed to download model: Download 'http://x/a' failed with status code: 404"
    line = line.replace("0.00.1 ", "0.00.056.839 ")
    found = diagnose(Exit(code=1), [line], was_ready=False, spec=HF)
    assert found.failure.permanent


def test_a_failure_with_an_older_copy_of_the_model_is_told():
    lines = [
        "0.00.077.006 E get_repo_commit: error: HTTPLIB failed: Could not establish connection",
        "0.00.090.525 E gguf_init_from_file: invalid magic characters: 'oops', expected 'GGUF'",
    ]
    assert diagnose(Exit(code=1), lines, was_ready=False, spec=HF).failure.kind is FailureKind.MODEL_CORRUPT


# Decisions


def fetched(server: Server, size: int) -> Server:
    return server.send(lifecycle.Fetching(server.state.attempt, size))


def test_a_download_that_gets_on_has_all_the_time():
    server = Server().spawned()
    fetched(server, 0)
    for second in range(1, 7200):
        fetched(server.after(1.0), second * 2**20).healthy(Health.REFUSED)
    assert server.where == (Status.STARTING, Phase.WAITING)
    assert sentence(server.state, POLICY, HF) == "Downloading the model, 7.0 GiB so far."


@pytest.mark.parametrize(("size", "words"), [(5, "stands still for 1 m"), (0, "nothing came for 1 m")])
def test_a_download_that_stands_still_is_begun_anew_without_a_retry(size, words):
    server = Server().spawned()
    fetched(server, size)
    server.after(60.5)
    assert server.where == (Status.CRASHED, Phase.ENDING)
    server.dies(signal=15)
    assert server.where == (Status.CRASHED, Phase.BACKOFF)
    assert server.state.failure.kind is FailureKind.DOWNLOAD_FAILED
    assert words in server.state.failure.detail
    assert server.state.retries == 0


def test_a_download_without_a_network_is_tried_for_ever_and_less_often_in_time():
    server, pauses = Server(), []
    line = (
        "0.00.056.839 E srv  llama_server: failed to download model: Download 'x' failed with status code: -1"
    )
    failure = diagnose(Exit(code=1), [line], was_ready=False, spec=HF).failure
    for _ in range(20):
        server.spawned() if server.state.status is Status.INITIAL else server.send(
            lifecycle.Inspected(server.state.attempt, None)
        ).send(lifecycle.Spawned(server.state.attempt, None))
        server.dies(failure)
        assert server.where == (Status.CRASHED, Phase.BACKOFF)
        assert server.state.retries == 0
        pauses.append(server.state.retry_at - server.now)
        assert "until it can be had" in sentence(server.state, POLICY, HF)
        server.to_next_deadline()
    assert pauses[:4] == [1, 2, 4, 8]
    assert max(pauses) == 30


# The runner


async def test_the_runner_looks_whether_a_download_gets_on():
    def prepare(b) -> None:
        b.probe.answer = Health.REFUSED

    async with bench(make_config(spec=HF), prepare=prepare) as b:
        process = b.processes.last
        for _ in range(200):
            process.fetched_bytes += 1000
            await b.clock.advance(1)
        assert b.status.detail.startswith("Downloading the model")

        async def lost() -> int:
            raise ShortageError("no descriptor")

        process.fetched = lost
        await b.clock.advance(30)
        assert b.status.status is Status.STARTING
        del process.fetched
        b.probe.answer = Health.OK
        await b.clock.advance(2)
        assert b.status.status is Status.READY
        assert b.processes.spawned == [process]
